//! What a dialect answered is carried out in order; a command makes the rest wait, and the session's later messages with it.

use std::collections::VecDeque;

use bytes::Bytes;
use cluster::sid::log_name;
use dialects::{Action, Actions, Command, Delivery, Inbound, Otherwise, Out, Outcome, Then};
use domain::Rejection;
use engineio::{CloseReason, Frame};
use serde_json::value::RawValue;
use socketio::{AckId, Args, Encoded, Namespace, Parser, msgpack};
use telemetry::trace::Span;

use super::commands::{self, Actor, Task};
use super::session::{Session, SessionKey};
use super::{Shard, State, trace};
use crate::app::App;
use crate::clock::unix_ms;
use crate::rate::sharing;

/// Rights that one event may ask the hook for.
const RIGHTS_PER_EVENT: usize = 8;

/// How long the server waits for a client's answer.
const ACK_TIMEOUT_MS: u64 = 60_000;

/// One event of a client on its way through its dialect.
#[derive(Debug)]
pub struct Run {
    nsp: Namespace,
    pub serial: u32,
    ack: Option<AckId>,
    rest: VecDeque<Action>,
    /// The event is the CONNECT: it must end accepted or refused.
    connecting: bool,
    /// To be put to the dialect again when the application's hook has granted a right.
    event: Option<Args>,
    /// What the hook has granted for this event.
    granted: Vec<Box<str>>,
    /// Where the event is traced.
    span: Option<Span>,
}

impl Run {
    pub fn connect(nsp: Namespace, serial: u32, ack: Option<AckId>, actions: Actions) -> Self {
        Self { connecting: true, ..Self::event(nsp, serial, ack, actions) }
    }

    pub fn event(nsp: Namespace, serial: u32, ack: Option<AckId>, actions: Actions) -> Self {
        let rest = actions.into();
        Self { nsp, serial, ack, rest, connecting: false, event: None, granted: Vec::new(), span: None }
    }

    /// The event's own arguments, its name first.
    pub fn args(&self) -> Option<&Args> {
        self.event.as_ref()
    }

    /// The event, to be handled another time: this run has nothing left to answer.
    pub fn take_event(&mut self) -> Option<(Option<AckId>, Args)> {
        self.event.take().map(|args| (self.ack.take(), args))
    }

    /// These actions come next.
    pub fn first(&mut self, actions: Actions) {
        for action in actions.into_iter().rev() {
            self.rest.push_front(action);
        }
    }
}

/// A command whose outcome the session waits for.
pub struct Waiting {
    pub key: SessionKey,
    pub run: Run,
    pub after: After,
}

/// Who says what follows.
pub enum After {
    Then(Then),
    /// The dialect, asked again with this right, or `otherwise`.
    HookAnswers {
        right: Box<str>,
        otherwise: Otherwise,
    },
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
        let Some(app) = app_of(shard, session, &nsp) else { return };
        shard.shared.metrics.events_in.with_label_values(&[app.name()]).inc();
        let Some(name) = args.event_name() else { return };
        if !app.dialect.knows(&name) {
            shard.shared.metrics.events_unknown.with_label_values(&[app.name()]).inc();
        }
        let span = trace::of_event(shard, session, &name);
        let elements = args.elements();
        let actions = self.ask(shard, session, &nsp, |socket| {
            let inbound = inbound(&name, &elements[1..], args.attachments(), ack.is_some());
            match over_rate(shard, app, socket, &name) {
                None => app.dialect.event(socket, &inbound),
                Some(rejection) => app.dialect.refuse(&inbound, &rejection),
            }
        });
        let Some((serial, actions)) = actions else { return };
        self.speaks(shard, session, serial);
        let run = Run { event: Some(args), span, ..Run::event(nsp, serial, ack, actions) };
        self.carry_out(shard, session, run);
    }

    pub(super) fn on_ack(
        &mut self,
        shard: &Shard,
        session: &mut Session,
        nsp: Namespace,
        tag: u64,
        args: Args,
    ) {
        let Some(app) = app_of(shard, session, &nsp) else { return };
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
        let socket = session.socket_in(nsp)?;
        Some((socket.serial, question(&socket.view(session.opening.handshake.as_deref()))))
    }

    fn speaks(&mut self, shard: &Shard, session: &mut Session, serial: u32) {
        if let Some(socket) = session.socket_by_serial(serial) {
            self.heard(shard, socket);
        }
    }

    /// Carries actions out until one has to wait, or to the end.
    pub(super) fn carry_out(&mut self, shard: &Shard, session: &mut Session, mut run: Run) {
        while let Some(action) = run.rest.pop_front() {
            if session.socket_by_serial(run.serial).is_none() {
                return;
            }
            match action {
                Action::Accept => self.accept(shard, session, &mut run),
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
                Action::PutOff { otherwise } => self.put_off(shard, session, &mut run, otherwise),
                Action::Restore => self.restore(shard, session, run.serial),
                Action::AskHook { right, otherwise } => {
                    let Some(actor) = actor(session, &run) else { return };
                    let command = Command::Authorize { right: right.to_string() };
                    let after = After::HookAnswers { right, otherwise };
                    return self.wait_for(session, actor, command, run, after);
                }
                Action::Run(command, then) => {
                    let Some(actor) = actor(session, &run) else { return };
                    match command {
                        Command::Emit(emission) if emission.delivery == Delivery::Ephemeral => {
                            let outcome = commands::publish(shard, &actor, &emission);
                            self.settled(shard, session, &mut run, then, outcome);
                        }
                        Command::Typing(signal) => {
                            let outcome = self.hear_typing(shard, &actor, *signal);
                            self.settled(shard, session, &mut run, then, outcome);
                        }
                        command => return self.wait_for(session, actor, command, run, After::Then(then)),
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
        let Waiting { key, mut run, after } = waiting;
        self.with_session(shard, key, |state, session| {
            session.busy = false;
            if session.ending.is_some() && outcome == Err(Rejection::Unavailable) {
                // Nobody waits for the rest, and the bus does not take it now.
                session.inbox.clear();
            }
            match after {
                After::Then(then) => state.settled(shard, session, &mut run, then, outcome),
                After::HookAnswers { right, otherwise } => {
                    state.hook_answered(shard, session, &mut run, right, otherwise, outcome);
                }
            }
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
            if let Some(span) = &mut run.span {
                span.fail(rejection.code());
            }
        }
        let Some(socket) = session.sockets.iter().find(|socket| socket.serial == run.serial) else { return };
        let actions = then(&socket.view(session.opening.handshake.as_deref()), outcome);
        for action in actions.into_iter().rev() {
            run.rest.push_front(action);
        }
    }

    fn wait_for(&mut self, session: &mut Session, actor: Actor, command: Command, run: Run, after: After) {
        session.busy = true;
        let waiting = Waiting { key: session.key, run, after };
        self.tasks.push(Task::Command { actor, command, waiting });
    }

    /// The event is put to the dialect again with what was granted, or refused.
    fn hook_answered(
        &mut self,
        shard: &Shard,
        session: &mut Session,
        run: &mut Run,
        right: Box<str>,
        otherwise: Otherwise,
        outcome: Result<Outcome, Rejection>,
    ) {
        let rejection = match outcome {
            Ok(Outcome::Authorized(true)) if run.granted.len() < RIGHTS_PER_EVENT => None,
            Ok(_) => Some(Rejection::RoomDenied),
            Err(rejection) => Some(rejection),
        };
        let actions = match rejection {
            None => {
                run.granted.push(right);
                again(shard, session, run)
            }
            Some(rejection) => {
                shard.shared.metrics.rejections.with_label_values(&[rejection.code()]).inc();
                otherwise(&rejection)
            }
        };
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
            session.close(shard, CloseReason::Internal, "the bus did not confirm its rooms");
        }
    }

    fn accept(&mut self, shard: &Shard, session: &mut Session, run: &mut Run) {
        let Some(socket) = session.socket_by_serial(run.serial) else { return };
        socket.accepted = true;
        let id = socket.id.clone();
        let accepted = session.io.as_mut().and_then(|io| io.accept(&run.nsp, &id, None));
        if accepted.is_none() && session.plain.is_none() {
            return;
        }
        if let Some(socket) = session.socket_by_serial(run.serial) {
            self.list_device(shard, socket, 0);
            self.count_socket(shard, socket, None);
        }
        match accepted {
            Some(accepted) => {
                session.released.extend(accepted.held);
                self.send_encoded(shard, session, accepted.frame);
            }
            None => {
                if let Some(id) = run.ack.take() {
                    let body = serde_json::json!({ "success": true });
                    self.send_plain_ack(shard, session, id, Out::json(&body));
                }
            }
        }
    }

    fn turn_away(&mut self, shard: &Shard, session: &mut Session, run: &Run, refusal: &dialects::Refusal) {
        if let Some(at) = session.sockets.iter().position(|socket| socket.serial == run.serial) {
            let socket = session.sockets.remove(at);
            self.socket_gone(shard, session, socket, "refused");
        }
        let data = refusal.data.as_ref().and_then(|data| socketio::Json::of(data).ok());
        self.refuse(shard, session, &run.nsp, &refusal.message, data.as_ref());
    }

    fn send_ack(&mut self, shard: &Shard, session: &mut Session, nsp: &Namespace, id: AckId, out: Out) {
        if session.plain.is_some() {
            return self.send_plain_ack(shard, session, id, out);
        }
        if session.parser() == Parser::Msgpack {
            let packet = msgpack::ack(nsp.as_str(), id.into_u64(), &out.tail, &out.attachments);
            return self.send_msgpack(shard, session, packet);
        }
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
        if session.plain.is_some() {
            return self.send_plain_event(shard, session, event, out);
        }
        if session.parser() == Parser::Msgpack {
            let packet = msgpack::event(nsp.as_str(), ack, event, &out.tail, &out.attachments, None);
            return self.send_msgpack(shard, session, packet);
        }
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

    fn send_msgpack(&mut self, shard: &Shard, session: &mut Session, packet: Option<Vec<u8>>) {
        match packet {
            Some(packet) => self.send(shard, session, Frame::Binary(packet.into())),
            None => tracing::error!(session = log_name(&session.sid), "the dialect's arguments are no JSON"),
        }
    }

    /// A packet of the session's own machine.
    pub(super) fn send_encoded(&mut self, shard: &Shard, session: &mut Session, frame: Encoded) {
        let frame = match frame {
            Encoded::Text(text) => Frame::Text(text.into()),
            Encoded::Binary(bytes) => Frame::Binary(bytes),
        };
        self.send(shard, session, frame);
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

/// The application of the socket in a namespace.
fn app_of<'a>(shard: &'a Shard, session: &Session, nsp: &Namespace) -> Option<&'a App> {
    session.socket_in(nsp).map(|socket| shard.shared.app(socket.app))
}

fn actor(session: &Session, run: &Run) -> Option<Actor> {
    let socket = session.sockets.iter().find(|socket| socket.serial == run.serial)?;
    let mut actor = Actor::of(session, socket);
    actor.traced = trace::parent(run.span.as_ref()).map(Box::new);
    Some(actor)
}

/// Puts an event to its dialect once more.
fn again(shard: &Shard, session: &Session, run: &Run) -> Actions {
    let Some(args) = &run.event else { return Actions::new() };
    let Some(name) = args.event_name() else { return Actions::new() };
    let Some(socket) = session.sockets.iter().find(|socket| socket.serial == run.serial) else {
        return Actions::new();
    };
    let handshake = session.opening.handshake.as_deref();
    let view = dialects::Socket { granted: &run.granted, ..socket.view(handshake) };
    let elements = args.elements();
    let inbound = inbound(&name, &elements[1..], args.attachments(), run.ack.is_some());
    shard.shared.app(socket.app).dialect.event(&view, &inbound)
}

/// A user who says more than may be said.
fn over_rate(shard: &Shard, app: &App, socket: &dialects::Socket<'_>, event: &str) -> Option<Rejection> {
    let (rates, user) = (app.rates.as_ref()?, &socket.identity?.user);
    if !app.dialect.is_counted(event) {
        return None;
    }
    if rates.take(user.as_str(), shard.now()) {
        sharing::note(&shard.shared, app, user);
        return None;
    }
    let limit = u64::from(rates.per_minute);
    let rejection =
        Rejection::OverLimit { what: "number of events per minute", limit, setting: "app.events_per_minute" };
    shard.shared.metrics.rejections.with_label_values(&[rejection.code()]).inc();
    Some(rejection)
}

fn inbound<'a>(
    name: &'a str,
    args: &'a [&'a RawValue],
    attachments: &'a [Bytes],
    wants_ack: bool,
) -> Inbound<'a> {
    Inbound { name, args, attachments, wants_ack, now_ms: unix_ms() }
}
