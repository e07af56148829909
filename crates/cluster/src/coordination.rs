//! What gateways ask of the coordinator, and its answers: one request on `tl.coord.<app>`, one reply. Any replica serves.
//!
//! Version byte, then msgpack with named fields: unknown keys are skipped and absent ones default, so that neighbouring versions
//! understand each other.

use domain::call::{self, Call, CallId, CommandId, Refusal};
use domain::presence::{ChoiceChange, Presence};
use domain::{Rejection, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::subject::escape_token;

/// First byte of a request and of a reply. A change that an older process would misread takes a new number.
pub const VERSION: u8 = 1;

/// Where requests of an application go; all coordinators share the work (queue group [`QUEUE`]).
pub fn subject(app: &str) -> String {
    format!("tl.coord.{}", escape_token(app))
}

pub const QUEUE: &str = "coordinator";

/// The bucket of an application's calls: `c.<call>` (a call), `u.<user>` ([`call::UserCalls`]), all encoded by [`encode`].
pub fn calls_bucket(app: &str) -> String {
    format!("TL_{}_calls", escape_token(app))
}

pub fn call_key(call: &CallId) -> String {
    format!("c.{call}")
}

pub fn user_calls_key(user: &UserId) -> String {
    format!("u.{}", escape_token(user.as_str()))
}

/// The bucket of an application's presence: `d.<user>.<node>.<thread>` (`presence::DeviceRecord`, written by gateways), `s.<user>`
/// ([`Presence`], written by coordinators), all encoded by [`encode`].
pub fn presence_bucket(app: &str) -> String {
    format!("TL_{}_presence", escape_token(app))
}

pub fn presence_key(user: &UserId) -> String {
    format!("s.{}", escape_token(user.as_str()))
}

pub fn device_key(user: &UserId, node: &str, thread: u8) -> String {
    format!("d.{}.{node}.{thread}", escape_token(user.as_str()))
}

/// On the removal of a device record: when the last device was gone, in milliseconds since the Unix epoch.
pub const GONE_HEADER: &str = "TL-Gone";

/// Every device record of a user.
pub fn devices_filter(user: &UserId) -> String {
    format!("d.{}.>", escape_token(user.as_str()))
}

/// Every device record of a node.
pub fn node_devices_filter(node: &str) -> String {
    format!("d.*.{node}.*")
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    Call(Box<call::Command>),
    /// A user's own choice of status.
    Choose {
        id: CommandId,
        user: UserId,
        /// The id as clients see it.
        wire_id: Value,
        change: ChoiceChange,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The call after the command.
    Call(Box<Call>),
    Presence(Box<Presence>),
    Refused(Refusal),
    /// Not done, as far as is known: the same command may be sent again.
    Unavailable,
    /// The request could not be read: another version, or garbage.
    Malformed,
}

impl Reply {
    /// As the gateway's commands end.
    pub fn into_result(self) -> Result<Reply, Rejection> {
        match self {
            Self::Refused(refusal) => Err(Rejection::Call(refusal)),
            Self::Unavailable | Self::Malformed => Err(Rejection::Unavailable),
            done => Ok(done),
        }
    }
}

/// Why bytes are no request or reply.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("empty")]
    Empty,
    #[error("version {0} is not this process's {VERSION}")]
    Version(u8),
    #[error("malformed: {0}")]
    Malformed(#[from] rmp_serde::decode::Error),
}

/// Version byte and msgpack.
pub fn encode(message: &impl Serialize) -> Vec<u8> {
    let mut out = vec![VERSION];
    rmp_serde::encode::write_named(&mut out, message).expect("the domain's values encode into memory");
    out
}

/// Never panics.
pub fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (version, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
    if *version != VERSION {
        return Err(DecodeError::Version(*version));
    }
    Ok(rmp_serde::from_slice(body)?)
}

#[cfg(test)]
mod tests {
    use domain::call::{Act, Actor, Call, CallId, Command, Invite, Kind, Medium, Offer, Person, Subject};
    use serde_json::json;

    use super::*;

    fn person(id: Value) -> Person {
        Person { user: UserId::from_json(&id).unwrap(), wire_id: id, name: Some("A".into()), role: None }
    }

    fn command() -> Request {
        let offer = Offer {
            kind: Kind::OneToOne,
            medium: Medium::Video,
            subject: Subject { visit: Some(json!(7)), ..Subject::default() },
            invited: vec![Invite { who: person(json!("b")) }],
        };
        Request::Call(Box::new(Command {
            id: CommandId(u128::MAX - 1),
            call: CallId::new("01J").unwrap(),
            actor: Some(Actor { who: person(json!(5)), device: "s1".into() }),
            act: Act::Initiate(offer),
        }))
    }

    #[test]
    fn requests_and_replies_come_back_as_they_went() {
        let request = command();
        assert_eq!(decode::<Request>(&encode(&request)).unwrap(), request);
        for reply in [Reply::Unavailable, Reply::Refused(Refusal::NoSuchParticipant("x".into()))] {
            assert_eq!(decode::<Reply>(&encode(&reply)).unwrap(), reply);
        }
        let call: Result<Call, _> = decode(&encode(&request));
        assert!(call.is_err());
    }

    #[test]
    fn perturbed_bytes_never_panic() {
        let good = encode(&command());
        for at in 0..good.len() {
            assert!(decode::<Request>(&good[..at]).is_err());
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                let _ = decode::<Request>(&bad);
            }
        }
    }
}
