//! What goes wrong in a world, and what may be broken in it.

use crate::Millis;

/// What goes wrong; chances in percent.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// A read comes from a replica that lags, this much at most.
    pub stale: u64,
    pub lag_ms: Millis,
    /// A write's answer, and half the time the write itself, is lost.
    pub lost_writes: u64,
    /// A request, an answer or a follower's message comes twice, or is lost.
    pub double: u64,
    pub lost: u64,
    /// A replica pauses between two steps.
    pub stall: u64,
    /// A client leaves right after it has asked for something.
    pub hasty: u64,
    pub skew_ms: u64,
    pub dying_replicas: bool,
    pub dying_gateways: bool,
}

impl Faults {
    pub const NONE: Self = Self {
        stale: 0,
        lag_ms: 1,
        lost_writes: 0,
        double: 0,
        lost: 0,
        stall: 0,
        hasty: 0,
        skew_ms: 0,
        dying_replicas: false,
        dying_gateways: false,
    };
    pub const NETWORK: Self = Self {
        stale: 20,
        lag_ms: 300,
        lost_writes: 2,
        double: 5,
        lost: 3,
        stall: 2,
        hasty: 15,
        skew_ms: 5_000,
        ..Self::NONE
    };
    /// Clients leave while their commands are still on their way.
    pub const HASTY: Self = Self { stale: 20, lag_ms: 300, stall: 8, hasty: 50, ..Self::NONE };
    pub const REPLICAS: Self = Self { dying_replicas: true, ..Self::NETWORK };
    pub const GATEWAYS: Self = Self { dying_gateways: true, ..Self::NETWORK };
    pub const ALL: Self = Self { dying_replicas: true, dying_gateways: true, ..Self::NETWORK };
}

/// A rule that is not kept: the world must find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Commits compare nothing.
    Compare,
    /// What was folded is not looked at again.
    LookAgain,
    /// Whoever committed says that nothing is left to do, and has not looked.
    LookFirst,
    /// Calls do not remember commands.
    RememberCommands,
    /// Choices are not remembered.
    RememberChoices,
    /// Of a record's revisions only the newest is told.
    TellEarlier,
    /// A revision is committed whether or not those before it are told.
    TellFirst,
    /// Nothing stands where another call was answered instead.
    NoteInstead,
    /// Nobody sees to it that users' records follow their calls.
    Follow,
    /// Reservations that nobody confirms stay.
    Dangling,
    /// Calls have no timers.
    SetTimers,
    /// What was read from a lagging replica is concluded from.
    ReadFresh,
}
