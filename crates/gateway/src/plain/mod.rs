//! The plain WebSocket: JSON text frames instead of Engine.IO and Socket.IO, for clients that bring no library. It is a front of the
//! same sessions: rooms, rights, limits and delivery are those of Socket.IO sockets.
//!
//! `codec` reads what clients send, `route` what their request shows; what a session does with it stands in `shard::plain`, what
//! goes out in `hub::plain`.

mod codec;
mod route;

pub use codec::{Decoder, Heard, Mistake};
pub use route::{Shown, shown};

use dialects::Token;

use crate::clock::Millis;

/// The plain side of a session.
#[derive(Debug)]
pub struct Front {
    pub decoder: Decoder,
    pub stage: Stage,
    /// The token that its socket is let in by.
    pub token: Option<Token>,
}

/// How far a plain connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No token was shown yet; the time it has.
    Unproven { until: Millis },
    /// Its socket is being let in, or is in.
    Proven,
}

impl Front {
    pub fn new(until: Millis) -> Self {
        Self { decoder: Decoder::default(), stage: Stage::Unproven { until }, token: None }
    }

    /// When its time to show a token is over.
    pub fn deadline(&self) -> Option<Millis> {
        match self.stage {
            Stage::Unproven { until } => Some(until),
            Stage::Proven => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{AppConfig, GatewayConfig};

    fn app(name: &str, path: &str, plain: Option<&str>) -> AppConfig {
        AppConfig {
            name: name.to_owned(),
            path: path.to_owned(),
            plain_path: plain.map(str::to_owned),
            ..AppConfig::default()
        }
    }

    /// Whether a mistake at this path is found.
    fn is_refused(apps: Vec<AppConfig>, at: &str) -> bool {
        let config = GatewayConfig { app: apps, ..GatewayConfig::default() };
        config.check().iter().any(|mistake| mistake.path == at)
    }

    #[test]
    fn a_plain_path_is_one_that_no_other_request_takes() {
        for wrong in ["events", "/", "", "/a", "/a/"] {
            assert!(is_refused(vec![app("a", "/a/", Some(wrong))], "app[0].plain_path"), "{wrong}");
        }
        assert!(!is_refused(vec![app("a", "/a/", Some("/events/"))], "app[0].plain_path"));
        for other in
            [app("b", "/events/", None), app("b", "/b/", Some("/events")), app("b", "/events", Some("/c"))]
        {
            assert!(is_refused(vec![app("a", "/a/", Some("/events")), other], "app[1].path"));
        }
        assert!(!is_refused(vec![app("a", "/a/", Some("/x")), app("b", "/b/", Some("/y"))], "app[1].path"));
    }
}
