//! The WebSocket extension that is agreed on: permessage-deflate without context takeover in either direction (RFC 7692, section 7).

use http::{HeaderMap, HeaderValue, header};

const NAME: &str = "permessage-deflate";
const AGREED: HeaderValue =
    HeaderValue::from_static("permessage-deflate; server_no_context_takeover; client_no_context_takeover");
/// The same, to a client that named the largest window there is.
const AGREED_WINDOW: HeaderValue = HeaderValue::from_static(
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15",
);

/// What the response says to the first offer that can be met; `None`: there is none.
pub fn agree(headers: &HeaderMap) -> Option<HeaderValue> {
    let lines =
        headers.get_all(header::SEC_WEBSOCKET_EXTENSIONS).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).find_map(answer)
}

fn answer(offer: &str) -> Option<HeaderValue> {
    let mut parts = offer.split(';').map(str::trim);
    if parts.next() != Some(NAME) {
        return None;
    }
    let mut seen = Vec::new();
    let mut names_window = false;
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
            None => (part, None),
        };
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
        match (name, value) {
            ("server_no_context_takeover" | "client_no_context_takeover", None) => {}
            // Whatever it is, what the client sends can be read.
            ("client_max_window_bits", None) => {}
            ("client_max_window_bits", Some(bits)) if is_window(bits) => {}
            // Smaller windows are not for us to make.
            ("server_max_window_bits", Some("15")) => names_window = true,
            _ => return None,
        }
    }
    Some(if names_window { AGREED_WINDOW } else { AGREED })
}

fn is_window(bits: &str) -> bool {
    matches!(bits, "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(lines: &[&'static str]) -> Option<HeaderValue> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(line));
        }
        agree(&headers)
    }

    #[test]
    fn the_first_offer_that_can_be_met_is_answered() {
        let fine = [
            &["permessage-deflate"][..],
            &["permessage-deflate; client_max_window_bits"],
            &["x-webkit-deflate-frame, permessage-deflate;client_max_window_bits=10"],
            &[
                "permessage-deflate; server_max_window_bits=8",
                "permessage-deflate; server_no_context_takeover",
            ],
        ];
        for lines in fine {
            assert_eq!(agreed(lines), Some(AGREED), "{lines:?}");
        }
        assert_eq!(agreed(&["permessage-deflate; server_max_window_bits=\"15\""]), Some(AGREED_WINDOW));
        let none = [
            &[][..],
            &["permessage-bzip2"],
            &["permessage-deflate; server_max_window_bits=9"],
            &["permessage-deflate; server_max_window_bits"],
            &["permessage-deflate; client_max_window_bits=16"],
            &["permessage-deflate; unknown"],
            &["permessage-deflate; server_no_context_takeover=1"],
            &["permessage-deflate; client_max_window_bits; client_max_window_bits"],
        ];
        for lines in none {
            assert_eq!(agreed(lines), None, "{lines:?}");
        }
    }
}
