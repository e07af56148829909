//! A broadcast as it crosses to the cores: encoded once, shared.

use cluster::Envelope;

use crate::{Delivery, Frames};

/// One copy of an emission, ready to be written to every receiver of a core.
#[derive(Debug)]
pub struct Broadcast {
    pub app: u16,
    pub rooms: Box<[Box<str>]>,
    pub at: usize,
    pub except: Box<[Box<str>]>,
    /// Id of the emission, the same in all copies.
    pub id: u128,
    pub order: Order,
    pub frames: Frames,
}

/// Which class an event is of, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Sequence in the application's event stream.
    Recoverable(u64),
    Ephemeral,
}

impl Broadcast {
    pub fn new(app: u16, envelope: &Envelope<'_>, order: Order) -> Self {
        Self {
            app,
            rooms: envelope.rooms.iter().map(|room| (*room).into()).collect(),
            at: usize::from(envelope.at),
            except: envelope.except.iter().map(|id| (*id).into()).collect(),
            id: envelope.id,
            order,
            frames: Frames::prepare(envelope, None),
        }
    }

    pub fn delivery(&self) -> Delivery<'_> {
        Delivery { app: self.app, order: self.order, rooms: &self.rooms, at: self.at, except: &self.except }
    }

    /// Bytes a receiver holds while this waits for it.
    pub fn size(&self) -> usize {
        self.frames.ws().len()
    }
}
