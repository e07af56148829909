//! ICE servers for a call's participants: STUN and TURN from the configuration, with TURN credentials that run out.
//!
//! Source: the TURN REST API draft (draft-uberti-behave-turn-rest-00), as coturn's `use-auth-secret` implements it: the user
//! name is `<expiry, Unix seconds>:<user>`, the password the base64 of HMAC-SHA1 over it with the shared secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha1::Sha1;

use crate::UserId;

/// The servers of an application.
#[derive(Clone, Default)]
pub struct IceServers {
    /// URLs that need no credentials: `stun:host:port`.
    pub stun: Vec<String>,
    pub turn: Vec<Turn>,
}

/// TURN servers that share a secret.
#[derive(Clone)]
pub struct Turn {
    /// `turn:host:port?transport=udp`, `turns:…`.
    pub urls: Vec<String>,
    pub secret: Box<[u8]>,
    /// How long credentials are good for.
    pub ttl_s: u64,
}

/// One entry of a browser's `RTCConfiguration.iceServers`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IceServer {
    pub urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

impl IceServers {
    /// For one participant; credentials are its own and end `ttl_s` from now.
    pub fn for_user(&self, user: &UserId, now_ms: u64) -> Vec<IceServer> {
        let stun = (!self.stun.is_empty()).then(|| IceServer {
            urls: self.stun.clone(),
            username: None,
            credential: None,
        });
        stun.into_iter().chain(self.turn.iter().map(|turn| turn.for_user(user, now_ms))).collect()
    }
}

impl Turn {
    fn for_user(&self, user: &UserId, now_ms: u64) -> IceServer {
        let username = format!("{}:{user}", now_ms / 1000 + self.ttl_s);
        let mut mac = Hmac::<Sha1>::new_from_slice(&self.secret).expect("HMAC takes keys of any length");
        mac.update(username.as_bytes());
        let credential = STANDARD.encode(mac.finalize().into_bytes());
        IceServer { urls: self.urls.clone(), username: Some(username), credential: Some(credential) }
    }
}

/// Secrets stay out of logs.
impl std::fmt::Debug for IceServers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IceServers").field("stun", &self.stun).field("turn", &self.turn.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_700_000_000_999;

    fn turn(secret: &str, ttl_s: u64) -> Turn {
        Turn { urls: vec!["turn:t:3478".to_owned()], secret: secret.as_bytes().into(), ttl_s }
    }

    /// Expected values: `printf '<user name>' | openssl dgst -sha1 -hmac '<secret>' -binary | base64`.
    #[test]
    fn credentials_are_those_that_coturn_expects() {
        let long = "a longer secret than sixty-four bytes, so that it is hashed before it is used";
        for (secret, ttl_s, user, username, credential) in [
            ("north", 3600, "ann", "1700003600:ann", "TwqKCcbzejRFa1sgGqGS7SEzCGg="),
            (long, 86_400, "we:ird é", "1700086400:we:ird é", "selzpSi6y1zVFfagOAh6ioJv10I="),
        ] {
            let server = turn(secret, ttl_s).for_user(&UserId::new(user).unwrap(), NOW_MS);
            assert_eq!(server.username.as_deref(), Some(username));
            assert_eq!(server.credential.as_deref(), Some(credential));
        }
    }

    #[test]
    fn the_list_is_that_of_a_browser() {
        let ann = UserId::new("ann").unwrap();
        let servers = IceServers { stun: vec!["stun:s".to_owned()], turn: vec![turn("north", 3600)] };
        let expected = serde_json::json!([
            { "urls": ["stun:s"] },
            { "urls": ["turn:t:3478"], "username": "1700003600:ann", "credential": "TwqKCcbzejRFa1sgGqGS7SEzCGg=" },
        ]);
        assert_eq!(serde_json::to_value(servers.for_user(&ann, NOW_MS)).unwrap(), expected);
        assert_eq!(IceServers::default().for_user(&ann, NOW_MS), []);
    }

    #[test]
    fn secrets_are_not_printed() {
        let servers = IceServers { stun: Vec::new(), turn: vec![turn("hunter2", 1)] };
        assert!(!format!("{servers:?}").contains("hunter2"));
        assert!(!format!("{servers:?}").contains(&format!("{:?}", b"hunter2")));
    }
}
