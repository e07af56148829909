//! Which configurations are refused, at which key, and which are not.

use serde_json::{Value, json};

use super::*;

/// Applications by their keys; the first is app[0].
fn mistakes(apps: &[Value]) -> Vec<String> {
    let read = |keys: &Value| serde_json::from_value(keys.clone()).expect("keys of an application");
    let config = GatewayConfig { app: apps.iter().map(read).collect(), ..GatewayConfig::default() };
    check(&config).iter().map(ToString::to_string).collect()
}

/// The keys that mistakes are at.
fn keys(apps: &[Value]) -> Vec<String> {
    let key = |mistake: &String| mistake.split(": ").next().unwrap_or_default().to_owned();
    mistakes(apps).iter().map(key).collect()
}

#[test]
fn listener_host_and_path_tell_applications_apart() {
    let apart = [
        [json!({}), json!({ "path": "/other" })],
        [json!({}), json!({ "hosts": ["a.example"] })],
        [json!({ "hosts": ["a.example"] }), json!({ "hosts": ["b.example"] })],
        [json!({}), json!({ "listen": ["127.0.0.1:1"] })],
        [json!({ "listen": ["127.0.0.1:1"] }), json!({ "listen": ["127.0.0.1:2"] })],
        [json!({ "plain_path": "/events" }), json!({ "path": "/other", "plain_path": "/other-events" })],
        [json!({ "plain_path": "/events" }), json!({ "hosts": ["a.example"], "plain_path": "/events" })],
    ];
    for apps in apart {
        assert_eq!(mistakes(&apps), [""; 0], "{apps:?}");
    }
}

#[test]
fn what_no_request_can_tell_apart_is_refused() {
    let refused = [
        ([json!({}), json!({})], "app[1].path"),
        ([json!({}), json!({ "path": "/socket.io" })], "app[1].path"),
        ([json!({ "hosts": ["a.example", "b.example"] }), json!({ "hosts": ["B.Example."] })], "app[1].path"),
        (
            [json!({ "listen": ["127.0.0.1:1", "127.0.0.1:2"] }), json!({ "listen": ["127.0.0.1:2"] })],
            "app[1].path",
        ),
        // One free port serves all who ask for it at the same address.
        ([json!({ "listen": ["127.0.0.1:0"] }), json!({ "listen": ["127.0.0.1:0"] })], "app[1].path"),
        ([json!({}), json!({ "path": "/other", "plain_path": "/socket.io/" })], "app[1].plain_path"),
        ([json!({ "plain_path": "/other/" }), json!({ "path": "/other" })], "app[1].path"),
        (
            [json!({ "plain_path": "/events" }), json!({ "path": "/other", "plain_path": "/events" })],
            "app[1].plain_path",
        ),
    ];
    for (apps, key) in refused {
        assert_eq!(keys(&apps), [key], "{apps:?}");
    }
}

#[test]
fn a_namespace_alone_is_refused_with_the_reason() {
    let of = |namespace: &str| json!({ "namespace": namespace });
    let found = mistakes(&[of("/a"), of("/b")]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("app[1].path: only the namespace tells this application from app[0]"),
        "{found:?}"
    );
    let same = mistakes(&[of("/a"), of("/a")]);
    assert!(same[0].contains("no request can tell"), "{same:?}");
    let of_host = json!({ "namespace": "/b", "hosts": ["a.example"] });
    assert_eq!(mistakes(&[of("/a"), of_host]), [""; 0]);
}

#[test]
fn hosts_that_no_request_names_are_refused() {
    let wrong = [
        "",
        ".",
        "a.example:80",
        "http://a.example",
        "a.example/x",
        "*.example",
        "::1",
        "[::1]:80",
        "[x]",
        "bücher.example",
    ];
    for host in wrong {
        assert_eq!(keys(&[json!({ "hosts": [host] })]), ["app[0].hosts"], "{host}");
    }
    for host in ["a.example", "A.example.", "localhost", "10.0.0.1", "[::1]", "my_host-1"] {
        assert_eq!(mistakes(&[json!({ "hosts": [host] })]), [""; 0], "{host}");
    }
}

#[test]
fn paths_that_the_router_does_not_take_are_refused() {
    for path in ["/a/{b}", "/a?b", "/a#b", "/:a", "/a/*b", "/a b", "/ä", "/a\u{7f}"] {
        assert_eq!(keys(&[json!({ "path": path })]), ["app[0].path"], "{path}");
        assert_eq!(keys(&[json!({ "plain_path": path })]), ["app[0].plain_path"], "{path}");
    }
}

/// What is not refused must not stop the router.
#[test]
fn the_router_takes_every_path_that_is_not_refused() {
    let printable = (0x21..0x7f_u8).map(char::from);
    let paths =
        printable.flat_map(|c| [format!("/{c}"), format!("/{c}a"), format!("/a{c}/b"), format!("/a/{c}{c}")]);
    let mut taken = 0;
    for path in paths.filter(|path| mistake_of(path).is_none()) {
        let base = path.trim_end_matches('/');
        if !base.is_empty() {
            let handler = || axum::routing::any(async || ());
            let router: axum::Router = axum::Router::new().route(base, handler());
            let _ = router.route(&format!("{base}/"), handler());
            taken += 1;
        }
    }
    assert!(taken > 300, "{taken}");
}

#[test]
fn ports_case_and_the_last_dot_of_a_host_do_not_count() {
    let cases = [
        ("A.example", "a.example"),
        ("a.example:8080", "a.example"),
        ("a.example.:8080", "a.example"),
        ("a.example.", "a.example"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("", ""),
    ];
    for (host, name) in cases {
        assert_eq!(name_of(host), name);
    }
}
