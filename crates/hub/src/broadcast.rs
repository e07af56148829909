//! A broadcast as it crosses to the cores: encoded once, shared.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use cluster::{Envelope, TraceParent};
use domain::call::View;
use socketio::Parser;

use crate::deflate;
use crate::plain::Plain;
use crate::{Delivery, Frames, Receipt};

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
    /// None for what is the node's own business.
    pub frames: Frames,
    /// The same for plain WebSocket clients, where the application has any.
    pub plain: Option<Plain>,
    /// Both again for clients that take compressed messages, made when the first of them is written to.
    deflated: [OnceLock<Bytes>; 2],
    /// The call whose room this is, as it is now.
    pub view: Option<Arc<View>>,
    /// Who sent this stored message waits to hear that somebody has it.
    pub receipt: Option<Arc<Receipt>>,
    /// The trace it belongs to, and when this node took it up; set by the node where it keeps traces.
    pub trace: Option<Traced>,
}

/// A broadcast's place in a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traced {
    pub parent: TraceParent,
    /// Nanoseconds since the Unix epoch.
    pub since_ns: u64,
}

/// Which class an event is of, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Sequence in the application's event stream.
    Recoverable(u64),
    Ephemeral,
}

impl Broadcast {
    /// `view`: what the envelope carries, read. `parser`: that of the application. An envelope without an event has no frames.
    pub fn new(
        app: u16,
        envelope: &Envelope<'_>,
        order: Order,
        view: Option<Arc<View>>,
        parser: Parser,
    ) -> Self {
        let silent = envelope.event.is_empty();
        Self {
            app,
            rooms: envelope.rooms.iter().map(|room| (*room).into()).collect(),
            at: usize::from(envelope.at),
            except: envelope.except.iter().map(|id| (*id).into()).collect(),
            id: envelope.id,
            order,
            frames: if silent { Frames::none() } else { Frames::prepare(envelope, None, parser) },
            plain: None,
            deflated: Default::default(),
            view,
            receipt: envelope.receipt.as_ref().and_then(Receipt::of).map(Arc::new),
            trace: None,
        }
    }

    /// Keeps what plain WebSocket clients are told.
    #[must_use]
    pub fn with_plain(mut self, envelope: &Envelope<'_>) -> Self {
        self.plain = (!envelope.event.is_empty()).then(|| Plain::of(envelope));
        self
    }

    /// The bytes for a receiver's WebSocket. `compress_over`: it takes compressed messages, and those with so many bytes are.
    pub fn ws_for(&self, plain: bool, compress_over: Option<usize>) -> &Bytes {
        let frames = self.frames_for(plain);
        match compress_over {
            Some(over) if frames.ws().len() >= over => {
                let deflated = &self.deflated[usize::from(plain)];
                deflated.get_or_init(|| deflate::ws_bytes(frames.packets(), over))
            }
            _ => frames.ws(),
        }
    }

    /// The frames for a receiver.
    pub fn frames_for(&self, plain: bool) -> &Frames {
        self.plain.as_ref().filter(|_| plain).map_or(&self.frames, Plain::frames)
    }

    pub fn delivery(&self) -> Delivery<'_> {
        Delivery { app: self.app, order: self.order, rooms: &self.rooms, at: self.at, except: &self.except }
    }

    /// The room this copy is for.
    pub fn room(&self) -> &str {
        &self.rooms[self.at]
    }

    /// Bytes a receiver holds while this waits for it.
    pub fn size(&self) -> usize {
        /// About what a view takes.
        const VIEW: usize = 512;
        self.frames.ws().len() + if self.view.is_some() { VIEW } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use domain::call::{CallId, Status};

    use super::*;

    #[test]
    fn an_envelope_without_an_event_has_a_view_and_no_frames() {
        let view = View {
            call: CallId::new("c").unwrap(),
            rev: 3,
            status: Status::Ended,
            seats: Vec::new(),
            controls: Vec::new(),
            sharers: Vec::new(),
        };
        let mut envelope = Envelope {
            id: 1,
            rooms: vec![".call:c"],
            at: 0,
            namespace: "/",
            event: "",
            tail: b"",
            attachments: vec![],
            except: vec![],
            view: None,
            receipt: None,
            trace: None,
        };
        let broadcast =
            Broadcast::new(0, &envelope, Order::Recoverable(1), Some(Arc::new(view.clone())), Parser::Json);
        assert!(broadcast.frames.is_empty() && broadcast.size() > 0);
        assert_eq!((broadcast.view.as_deref(), broadcast.room()), (Some(&view), ".call:c"));
        envelope.event = "call:media";
        assert!(!Broadcast::new(0, &envelope, Order::Ephemeral, None, Parser::Json).frames.is_empty());
    }
}
