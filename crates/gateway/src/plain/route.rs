//! The way in: a WebSocket at the application's plain path, with its token in a header, in the subprotocol pair `bearer, <token>`,
//! or in its first frame.

use dialects::Token;
use http::{HeaderMap, header};

use crate::app::App;
use crate::auth::{Source, find_token};

/// The subprotocol that stands before a token.
const BEARER: &str = "bearer";

/// What the request says about its client.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Shown {
    pub token: Option<Token>,
    /// The subprotocol to choose: a client that offers some expects one of them.
    pub protocol: Option<&'static str>,
}

/// Reads the token of a request, from wherever the application looks for one and where plain clients put it.
pub fn shown(app: &App, headers: &HeaderMap) -> Shown {
    let mut sources: Vec<Source> = app.config.token.iter().flat_map(|token| token.sources.clone()).collect();
    sources.push(Source::Bearer);
    let in_headers = find_token(&sources, None, headers).map(|(token, _)| token);
    let in_protocol = of_protocol(headers);
    Shown { protocol: in_protocol.is_some().then_some(BEARER), token: in_headers.or(in_protocol).map(Token) }
}

/// The token of the pair `bearer, <token>`, in one header line or several.
fn of_protocol(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let offered: Vec<&str> =
        lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim).collect();
    let at = offered.iter().position(|name| name.eq_ignore_ascii_case(BEARER))?;
    offered.get(at + 1).filter(|token| !token.is_empty()).map(|token| (*token).to_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn token(lines: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(line));
        }
        of_protocol(&headers)
    }

    #[test]
    fn a_subprotocol_pair_carries_a_token() {
        assert_eq!(token(&["bearer, a.b.c"]).as_deref(), Some("a.b.c"));
        assert_eq!(token(&["json", "Bearer", "a.b-c_d"]).as_deref(), Some("a.b-c_d"));
        for none in [&["bearer"][..], &["bearer,"], &["a.b.c"], &[]] {
            assert_eq!(token(none), None, "{none:?}");
        }
    }
}
