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
