//! Requests and refusals, as the reference server answers them.

use engineio::request::parse;
use engineio::{Answer, Refusal, Request, Transport};

#[test]
fn requests_are_understood() {
    let table = [
        ("GET", "EIO=4&transport=polling", false, Request::Handshake(Transport::Polling)),
        ("GET", "EIO=4&transport=polling&t=abc&b64=1", false, Request::Handshake(Transport::Polling)),
        ("GET", "transport=polling&EIO=4&sid=", false, Request::Handshake(Transport::Polling)),
        ("GET", "EIO=4&transport=websocket", true, Request::Handshake(Transport::WebSocket)),
        ("GET", "EIO=4&transport=polling&sid=x", false, Request::Poll { sid: "x" }),
        ("POST", "EIO=4&transport=polling&sid=x", false, Request::Post { sid: "x" }),
        ("GET", "EIO=4&transport=websocket&sid=x", true, Request::Upgrade { sid: "x" }),
    ];
    for (method, query, websocket, request) in table {
        assert_eq!(parse(method, query, websocket), Ok(request), "{method} {query}");
    }
}

#[test]
fn requests_are_refused_with_the_reference_codes() {
    let long = format!("EIO=4&transport=polling&sid={}", "x".repeat(300));
    let table = [
        ("GET", "", false, Refusal::UNKNOWN_TRANSPORT),
        ("GET", "EIO=4", false, Refusal::UNKNOWN_TRANSPORT),
        ("GET", "EIO=4&transport=abc", false, Refusal::UNKNOWN_TRANSPORT),
        ("GET", "EIO=4&transport=", true, Refusal::UNKNOWN_TRANSPORT),
        ("GET", "transport=polling", false, Refusal::UNSUPPORTED_VERSION),
        ("GET", "EIO=abc&transport=polling", false, Refusal::UNSUPPORTED_VERSION),
        ("GET", "EIO=3&transport=websocket", true, Refusal::UNSUPPORTED_VERSION),
        ("POST", "EIO=4&transport=polling", false, Refusal::BAD_HANDSHAKE_METHOD),
        ("PUT", "EIO=4&transport=polling", false, Refusal::BAD_HANDSHAKE_METHOD),
        ("GET", "EIO=4&transport=websocket", false, Refusal::BAD_REQUEST),
        ("GET", "EIO=4&transport=polling", true, Refusal::BAD_REQUEST),
        ("GET", "EIO=4&transport=polling&j=0", false, Refusal::BAD_REQUEST),
        ("PUT", "EIO=4&transport=polling&sid=x", false, Refusal::BAD_REQUEST),
        ("POST", "EIO=4&transport=websocket&sid=x", false, Refusal::BAD_REQUEST),
        ("GET", &long, false, Refusal::UNKNOWN_SID),
    ];
    for (method, query, websocket, refusal) in table {
        assert_eq!(parse(method, query, websocket), Err(refusal), "{method} {query}");
    }
}

#[test]
fn refusals_are_json() {
    assert_eq!(Refusal::UNKNOWN_SID.body(), r#"{"code":1,"message":"Session ID unknown"}"#);
    let (status, content_type, body) = Answer::from(Refusal::BAD_REQUEST).into_http();
    assert_eq!((status, content_type), (400, "application/json"));
    assert_eq!(body, r#"{"code":3,"message":"Bad request"}"#);
    assert_eq!(Answer::from(Refusal::FORBIDDEN).into_http().0, 403);
    assert_eq!(Answer::Ok.into_http().2, "ok");
    let (status, _, body) = Answer::TooLarge.into_http();
    assert_eq!((status, body.len()), (413, 0));
}
