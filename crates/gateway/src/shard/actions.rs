//! What a dialect answered is carried out in order; a command makes the rest wait, and the session's later messages with it.

use std::collections::VecDeque;

use bytes::Bytes;
use cluster::sid::log_name;
use dialects::{Action, Actions, Command, Delivery, Inbound, Out, Outcome, Then};
use domain::Rejection;
use engineio::{CloseReason, Frame, Input};
use serde_json::value::RawValue;
use socketio::{AckId, Args, Namespace};

use super::commands::{self, Actor, Task};
use super::session::{Session, SessionKey};
use super::{Shard, State};
use crate::clock::unix_ms;

/// How long the server waits for a client's answer.
const ACK_TIMEOUT_MS: u64 = 60_000;

/// One event of a client on its way through its dialect.
#[derive(Debug)]
pub struct Run {
    nsp: Namespace,
    serial: u32,
    ack: Option<AckId>,
    rest: VecDeque<Action>,
    /// The event is the CONNECT: it must end accepted or refused.
    connecting: bool,
}

impl Run {
    pub fn connect(nsp: Namespace, serial: u32, actions: Actions) -> Self {
        Self { nsp, serial, ack: None, rest: actions.into(), connecting: true }
    }

    fn event(nsp: Namespace, serial: u32, ack: Option<AckId>, actions: Actions) -> Self {
        Self { nsp, serial, ack, rest: actions.into(), connecting: false }
    }
}

/// A command whose outcome the session waits for.
pub struct Waiting {
    pub key: SessionKey,
    pub run: Run,
    pub then: Then,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waiting").field("key", &self.key).field("run", &self.run).finish_non_exhaustive()
    }
}

impl State {
    pub(super) fn on_event(
        &mut self,
        shard: &Shard,
        session: &mut Session,
        nsp: Namespace,
        ack: Option<AckId>,
        args: Args,
    ) {
        let app = shard.shared.app(session.app);
        shard.shared.metrics.events_in.with_label_values(&[app.name()]).inc();
        let Some(name) = args.event_name() else { return };
        let elements = args.elements();
        let actions = self.ask(shard, session, &nsp, |socket| {
            let inbound = inbound(&name, &elements[1..], args.attachments(), ack.is_some());
            app.dialect.event(socket, &inbound)
        });
        let Some((serial, actions)) = actions else { return };
        self.speaks(shard, session, serial);
        self.carry_out(shard, session, Run::event(nsp, serial, ack, actions));
    }

    pub(super) fn on_ack(
        &mut self,
        shard: &Shard,
        session: &mut Session,
        nsp: Namespace,
        tag: u64,
        args: Args,
    ) {
        let app = shard.shared.app(session.app);
        let elements = args.elements();
        let actions = self.ask(shard, session, &nsp, |socket| {
            app.dialect.acked(socket, tag, &inbound("", &elements, args.attachments(), false))
        });
        let Some((serial, actions)) = actions else { return };
        self.speaks(shard, session, serial);
        self.carry_out(shard, session, Run::event(nsp, serial, None, actions));
    }

    fn ask(
        &self,
        _: &Shard,
        session: &mut Session,
        nsp: &Namespace,
        question: impl FnOnce(&dialects::Socket<'_>) -> Actions,
    ) -> Option<(u32, Actions)> {
        let socket = session.sockets.iter().find(|socket| socket.nsp == *nsp)?;
        Some((socket.serial, question(&socket.view(session.opening.handshake.as_deref()))))
    }

    fn speaks(&mut self, shard: &Shard, session: &mut Session, serial: u32) {
        let app = session.app;
        if let Some(socket) = session.socket_by_serial(serial) {
            self.heard(shard, app, socket);
        }
    }

    /// Carries actions out until one has to wait, or to the end.
    pub(super) fn carry_out(&mut self, shard: &Shard, session: &mut Session, mut run: Run) {
        while let Some(action) = run.rest.pop_front() {
            if session.socket_by_serial(run.serial).is_none() {
                return;
            }
            match action {
                Action::Accept => self.accept(shard, session, &run),
                Action::Refuse(refusal) => return self.turn_away(shard, session, &run, &refusal),
                Action::Ack(out) => {
                    if let Some(id) = run.ack.take() {
                        self.send_ack(shard, session, &run.nsp, id, out);
                    }
                }
                Action::Emit { event, args } => self.send_event(shard, session, &run.nsp, None, &event, args),
                Action::EmitWithAck { event, args, tag } => {
                    let limits = &shard.shared.app(session.app).packets;
                    let deadline = shard.now() + ACK_TIMEOUT_MS;
                    let id = session
                        .io
                        .as_mut()
                        .and_then(|io| io.register_ack(limits, &run.nsp, tag, deadline).ok());
                    // Without room for another ack the event goes out all the same; its answer is not waited for.
                    self.send_event(shard, session, &run.nsp, id, &event, args);
                }
                Action::Remember(stage) => {
                    if let Some(socket) = session.socket_by_serial(run.serial) {
                        socket.stage = stage;
                    }
                }
                Action::Run(command, then) => {
                    let actor = session
                        .sockets
                        .iter()
                        .find(|s| s.serial == run.serial)
                        .map(|s| Actor::of(session, s));
                    let (Some(actor), key) = (actor, session.key) else { return };
                    match command {
                        Command::Emit(emission) if emission.delivery == Delivery::Ephemeral => {
                            let outcome = commands::publish(shard, &actor, &emission);
                            self.settled(shard, session, &mut run, then, outcome);
                        }
                        command => {
                            session.busy = true;
                            self.tasks.push(Task::Command {
                                actor,
                                command,
                                waiting: Waiting { key, run, then },
                            });
                            return;
                        }
                    }
                }
            }
        }
        self.finish(shard, session, &run);
    }

    /// A command's outcome is here: the dialect says what follows, before what was already to follow.
    pub(super) fn settle_command(
        &mut self,
        shard: &Shard,
        waiting: Waiting,
        outcome: Result<Outcome, Rejection>,
    ) {
        let Waiting { key, mut run, then } = waiting;
        self.with_session(shard, key, |state, session| {
            session.busy = false;
            if session.ending.is_some() && outcome == Err(Rejection::Unavailable) {
                // Nobody waits for the rest, and the bus does not take it now.
                session.inbox.clear();
            }
            state.settled(shard, session, &mut run, then, outcome);
            state.carry_out(shard, session, run);
            state.end_entering(shard, session);
        });
    }

    fn settled(
        &mut self,
        shard: &Shard,
        session: &mut Session,
        run: &mut Run,
        then: Then,
        outcome: Result<Outcome, Rejection>,
    ) {
        if let Err(rejection) = &outcome {
            shard.shared.metrics.rejections.with_label_values(&[rejection.code()]).inc();
        }
        let Some(socket) = session.sockets.iter().find(|socket| socket.serial == run.serial) else { return };
        let actions = then(&socket.view(session.opening.handshake.as_deref()), outcome);
        for action in actions.into_iter().rev() {
            run.rest.push_front(action);
        }
    }

    /// A CONNECT that was neither accepted nor refused failed on our side: the transport is closed, the client comes back.
    fn finish(&mut self, shard: &Shard, session: &mut Session, run: &Run) {
        let undecided = session.socket_by_serial(run.serial).is_some_and(|socket| !socket.accepted);
        if run.connecting && undecided {
            tracing::warn!(
                session = log_name(&session.sid),
                "a socket could not connect: the bus did not confirm its rooms"
            );
            let config = &shard.shared.app(session.app).engine;
            session.engine.handle(config, shard.now(), Input::Close(CloseReason::Internal));
        }
    }

    fn accept(&mut self, shard: &Shard, session: &mut Session, run: &Run) {
        let Some(socket) = session.socket_by_serial(run.serial) else { return };
        socket.accepted = true;
        let id = socket.id.clone();
        let Some(accepted) = session.io.as_mut().and_then(|io| io.accept(&run.nsp, &id, None)) else {
            return;
        };
        session.released.extend(accepted.held);
        let app = session.app;
        if let Some(socket) = session.socket_by_serial(run.serial) {
            self.list_device(shard, app, socket, 0);
        }
        self.send(shard, session, Frame::Text(accepted.frame.into()));
    }

    fn turn_away(&mut self, shard: &Shard, session: &mut Session, run: &Run, refusal: &dialects::Refusal) {
        if let Some(at) = session.sockets.iter().position(|socket| socket.serial == run.serial) {
            let socket = session.sockets.remove(at);
            self.socket_gone(shard, session, socket);
        }
        let data = refusal.data.as_ref().and_then(|data| socketio::Json::of(data).ok());
        self.refuse(shard, session, &run.nsp, &refusal.message, data.as_ref());
    }

    fn send_ack(&mut self, shard: &Shard, session: &mut Session, nsp: &Namespace, id: AckId, out: Out) {
        let mut packet = vec![b'4'];
        socketio::encode_ack_into(&mut packet, nsp.as_str(), id.into_u64(), &out.tail, out.attachments.len());
        self.send_packet(shard, session, packet, out.attachments);
    }

    fn send_event(
        &mut self,
        shard: &Shard,
        session: &mut Session,
        nsp: &Namespace,
        ack: Option<u64>,
        event: &str,
        out: Out,
    ) {
        let mut packet = vec![b'4'];
        socketio::encode_event_into(
            &mut packet,
            nsp.as_str(),
            ack,
            event,
            &out.tail,
            out.attachments.len(),
            None,
        );
        self.send_packet(shard, session, packet, out.attachments);
    }

    fn send_packet(
        &mut self,
        shard: &Shard,
        session: &mut Session,
        packet: Vec<u8>,
        attachments: Vec<Bytes>,
    ) {
        let Ok(text) = engineio::Text::try_from(Bytes::from(packet)) else { return };
        self.send(shard, session, Frame::Text(text));
        for attachment in attachments {
            self.send(shard, session, Frame::Binary(attachment));
        }
    }
}

fn inbound<'a>(
    name: &'a str,
    args: &'a [&'a RawValue],
    attachments: &'a [Bytes],
    wants_ack: bool,
) -> Inbound<'a> {
    Inbound { name, args, attachments, wants_ack, now_ms: unix_ms() }
}
