//! `conformance`: what the public protocol suites and the published clients' own suites expect of a server, and the
//! `rooms` profile that load tests use. No authentication; refused together with production settings.

use bytes::Bytes;
use domain::{Rejection, RoomId};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::payload::is_placeholder;
use crate::time::iso8601;
use crate::{
    Action, Actions, Command, Delivery, Emission, EngineAction, Handshake, Inbound, Join, Layer, Out,
    Refusal, Socket,
};

/// Which suite's handlers are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Bare Engine.IO echo.
    Engineio,
    /// The Socket.IO protocol suite.
    Socketio,
    /// engine.io-client's own suite.
    EngineClient,
    /// socket.io-client's own suite.
    Client,
    /// Load tests: `join`, `leave`, `send` (ephemeral), `store` (recoverable), `echo`.
    Rooms,
}

#[derive(Debug)]
pub struct Conformance {
    profile: Profile,
}

const AUTH_DELAY_MS: u64 = 5;
const HANDSHAKE_DELAY_MS: u64 = 10;

/// Tags of the acks the server asks for.
const TAG_EMIT_AGAIN: u64 = 1;
const TAG_GOT_IT: u64 = 2;

impl Conformance {
    pub fn new(profile: Profile) -> Self {
        Self { profile }
    }

    pub(crate) fn layer(&self) -> Layer {
        match self.profile {
            Profile::Engineio | Profile::EngineClient => Layer::Engine,
            Profile::Socketio | Profile::Client | Profile::Rooms => Layer::SocketIo,
        }
    }

    pub(crate) fn has_namespace(&self, namespace: &str) -> bool {
        let served: &[&str] = match self.profile {
            Profile::Socketio => &["/", "/custom"],
            Profile::Client => &["/", "/foo", "/timeout_socket", "/valid", "/asd", "/abc", "/no"],
            Profile::Rooms => &["/"],
            Profile::Engineio | Profile::EngineClient => &[],
        };
        served.contains(&namespace)
    }

    pub(crate) fn connecting(&self, socket: &Socket<'_>, auth: Option<&RawValue>) -> Actions {
        let auth = auth.map_or("{}", RawValue::get);
        let query = |key: &str| socket.handshake.is_some_and(|h| h.query.contains_key(key));
        match (self.profile, socket.namespace) {
            (Profile::Client, "/no") => vec![Action::Refuse(Refusal::new("Auth failed (custom namespace)"))],
            (Profile::Client, "/") if query("fail") => {
                vec![Action::Refuse(Refusal::new("Auth failed (main namespace)"))]
            }
            (Profile::Client, "/abc") => {
                vec![
                    Action::Accept,
                    Action::emit("handshake", Out::json(&handshake_json(socket.handshake, auth))),
                ]
            }
            (Profile::Socketio, _) => {
                // The public suite loses a frame that its client reads together with the one before it.
                let auth = Out::raw(auth.as_bytes(), vec![]);
                let emit = Box::new(|_: &Socket<'_>, _| vec![Action::emit("auth", auth)]);
                vec![Action::Accept, Action::Run(Command::Wait(AUTH_DELAY_MS), emit)]
            }
            // The client's suite expects its own timers of 0 ms to win against the handshake.
            (Profile::Client, _) => {
                vec![Action::Run(Command::Wait(HANDSHAKE_DELAY_MS), Box::new(|_, _| vec![Action::Accept]))]
            }
            _ => vec![Action::Accept],
        }
    }

    pub(crate) fn event(&self, socket: &Socket<'_>, inbound: &Inbound<'_>) -> Actions {
        match self.profile {
            Profile::Socketio => socketio_suite(inbound),
            Profile::Client => client_suite(socket, inbound),
            Profile::Rooms => rooms(inbound),
            Profile::Engineio | Profile::EngineClient => Actions::new(),
        }
    }

    pub(crate) fn acked(&self, _: &Socket<'_>, tag: u64, answer: &Inbound<'_>) -> Actions {
        match tag {
            TAG_EMIT_AGAIN => vec![Action::emit("emit-with-ack", same(answer))],
            TAG_GOT_IT => {
                let values: Vec<Value> =
                    answer.args.iter().filter_map(|a| serde_json::from_str(a.get()).ok()).collect();
                let right = values == [json!(5), json!({ "test": true })];
                if right { vec![Action::emit("got it", Out::none())] } else { vec![] }
            }
            _ => Actions::new(),
        }
    }

    pub(crate) fn handshake(
        &self,
        handshake: &Handshake,
    ) -> Result<Vec<(&'static str, String)>, &'static str> {
        if self.profile != Profile::EngineClient {
            return Ok(Vec::new());
        }
        if handshake.query.contains_key("deny") {
            return Err("denied");
        }
        let expired = "expires=Thu, 01 Jan 1970 00:00:00 GMT";
        let cookies = [
            "1=1; Path=/".to_owned(),
            "2=2; Path=/; Max-Age=86400".into(),
            format!("3=3; Path=/; {expired}"),
            "4=4; Path=/; Max-Age=0".into(),
        ];
        Ok(cookies.into_iter().map(|cookie| ("set-cookie", cookie)).collect())
    }

    pub(crate) fn engine_opened(&self) -> Vec<EngineAction> {
        if self.profile == Profile::EngineClient { vec![EngineAction::Text("hi".into())] } else { vec![] }
    }

    pub(crate) fn engine_message(
        &self,
        handshake: Option<&Handshake>,
        message: EngineAction,
    ) -> Vec<EngineAction> {
        let special = match (&message, self.profile) {
            (EngineAction::Text(text), Profile::EngineClient) => match text.as_str() {
                "give binary" => Some(EngineAction::Binary(Bytes::from_static(&[0, 1, 2, 3, 4]))),
                "give utf8" => Some(EngineAction::Text("пойду спать всем спокойной ночи".into())),
                "sendHeaders" => {
                    let headers = handshake
                        .map(|h| h.post_headers.as_ref().unwrap_or(&h.headers).clone())
                        .unwrap_or_default();
                    Some(EngineAction::Text(Value::Object(headers).to_string()))
                }
                _ => None,
            },
            _ => None,
        };
        vec![special.unwrap_or(message)]
    }
}

/// The inbound arguments as they came.
fn same(inbound: &Inbound<'_>) -> Out {
    Out::raw(inbound.raw_args(), inbound.attachments.to_vec())
}

fn socketio_suite(inbound: &Inbound<'_>) -> Actions {
    match inbound.name {
        "message" => vec![Action::emit("message-back", same(inbound))],
        "message-with-ack" => vec![Action::Ack(same(inbound))],
        "emit-with-ack" => {
            vec![Action::EmitWithAck {
                event: "emit-with-ack".into(),
                args: same(inbound),
                tag: TAG_EMIT_AGAIN,
            }]
        }
        _ => Actions::new(),
    }
}

fn client_suite(socket: &Socket<'_>, inbound: &Inbound<'_>) -> Actions {
    let now = || Value::from(iso8601(inbound.now_ms));
    let binary = |name: &'static str| {
        if inbound.is_binary(0) { vec![Action::emit(name, Out::none())] } else { vec![] }
    };
    match inbound.name {
        "hi" => vec![Action::emit("hi", Out::none())],
        "echo" => {
            let first = inbound.args.first().map_or("null", |a| a.get());
            vec![Action::Ack(Out::raw(first.as_bytes(), inbound.attachments.to_vec()))]
        }
        "ack" => vec![Action::EmitWithAck { event: "ack".into(), args: Out::none(), tag: TAG_GOT_IT }],
        "getId" => vec![Action::Ack(Out::json(&socket.id))],
        "getHandshake" => vec![Action::Ack(Out::json(&handshake_json(socket.handshake, "{}")))],
        "getAckDate" => vec![Action::Ack(Out::json(&now()))],
        "getDate" => vec![Action::emit("takeDate", Out::json(&now()))],
        "getDateObj" => vec![Action::emit("takeDateObj", Out::json(&json!({ "date": now() })))],
        "getUtf8" => {
            let texts = ["てすと", "Я Б Г Д Ж Й", "Ä ä Ü ü ß", "utf8 — string", "utf8 — string"];
            texts.into_iter().map(|text| Action::emit("takeUtf8", Out::json(&text))).collect()
        }
        "false" => vec![Action::emit("false", Out::json(&false))],
        "doge" => vec![Action::emit("doge", asdf())],
        "getbin" => vec![Action::emit("takebin", asdf())],
        "buffa" => binary("buffack"),
        "jsonbuff" if is_greeting(inbound) => vec![Action::emit("jsonbuff-ack", Out::none())],
        "jsonblob" if is_greeting(inbound) => vec![Action::emit("jsonblob-ack", Out::none())],
        "blob" => binary("back"),
        "abuff1" | "blob1" => in_order(socket, 0, 1, None),
        "abuff2" => in_order(socket, 1, 0, Some("abuff2-ack")),
        "blob2" => in_order(socket, 1, 2, None),
        "blob3" => in_order(socket, 2, 0, Some("blob3-ack")),
        _ => Actions::new(),
    }
}

fn asdf() -> Out {
    Out::none().and_binary(Bytes::from_static(b"asdfasdf"))
}

/// A step of a sequence of events (binary, with text among them): counts only at its stage.
fn in_order(socket: &Socket<'_>, at: u32, next: u32, done: Option<&'static str>) -> Actions {
    if socket.stage != at {
        return Actions::new();
    }
    let mut actions = vec![Action::Remember(next)];
    actions.extend(done.map(|name| Action::emit(name, Out::none())));
    actions
}

/// `{ hello: 'lol', message: binary, goodbye: 'gotcha' }`.
fn is_greeting(inbound: &Inbound<'_>) -> bool {
    #[derive(serde::Deserialize)]
    struct Greeting<'a> {
        hello: String,
        #[serde(borrow)]
        message: &'a RawValue,
        goodbye: String,
    }
    let Some(first) = inbound.args.first() else { return false };
    serde_json::from_str::<Greeting<'_>>(first.get())
        .is_ok_and(|g| g.hello == "lol" && g.goodbye == "gotcha" && is_placeholder(g.message))
}

fn handshake_json(handshake: Option<&Handshake>, auth: &str) -> Value {
    let auth: Value = serde_json::from_str(auth).unwrap_or_else(|_| json!({}));
    let Some(h) = handshake else { return json!({ "auth": auth }) };
    let mut object = Map::new();
    for (key, value) in [
        ("headers", Value::Object(h.headers.clone())),
        ("time", iso8601(h.issued_ms).into()),
        ("address", h.address.clone().into()),
        ("xdomain", h.xdomain.into()),
        ("secure", h.secure.into()),
        ("issued", h.issued_ms.into()),
        ("url", h.url.clone().into()),
        ("query", Value::Object(h.query.clone())),
        ("auth", auth),
    ] {
        object.insert(key.to_owned(), value);
    }
    object.into()
}

/// The load-test vocabulary. `join` answers with the room, `store` and `echo` with their payload.
fn rooms(inbound: &Inbound<'_>) -> Actions {
    let result = match inbound.name {
        "join" => rooms_join(inbound),
        "leave" => rooms_leave(inbound),
        "send" => rooms_send(inbound, Delivery::Ephemeral),
        "store" => rooms_send(inbound, Delivery::Recoverable),
        "echo" => Ok(vec![Action::Ack(same(inbound))]),
        _ => Err(Rejection::UnknownEvent),
    };
    result.unwrap_or_else(|rejection| refuse(inbound, &rejection))
}

fn refuse(inbound: &Inbound<'_>, rejection: &Rejection) -> Actions {
    let error = Out::json(
        &json!({ "message": rejection.to_string(), "code": rejection.code(), "event": inbound.name }),
    );
    if inbound.wants_ack { vec![Action::Ack(error)] } else { vec![Action::emit("error", error)] }
}

fn rooms_join(inbound: &Inbound<'_>) -> Result<Actions, Rejection> {
    let room = room_argument(inbound)?;
    let answer = Out::json(&room);
    let join = Join { room, note: None, participant: None };
    Ok(vec![Action::Run(Command::Join(vec![join]), acked_with(answer))])
}

fn rooms_leave(inbound: &Inbound<'_>) -> Result<Actions, Rejection> {
    let room = room_argument(inbound)?;
    let answer = Out::json(&room);
    Ok(vec![Action::Run(Command::Leave(vec![room]), acked_with(answer))])
}

fn rooms_send(inbound: &Inbound<'_>, delivery: Delivery) -> Result<Actions, Rejection> {
    let room = room_argument(inbound)?;
    let answer = Out::json(&room);
    let emission = Emission {
        rooms: vec![room],
        event: "event".into(),
        args: same(inbound),
        delivery,
        except_self: false,
    };
    Ok(vec![Action::Run(Command::Emit(emission), acked_with(answer))])
}

fn acked_with(answer: Out) -> crate::Then {
    Box::new(move |_, outcome| match outcome {
        Ok(_) => vec![Action::Ack(answer)],
        Err(rejection) => vec![Action::Ack(Out::json(&json!({ "error": rejection.code() })))],
    })
}

fn room_argument(inbound: &Inbound<'_>) -> Result<RoomId, Rejection> {
    let problem = Rejection::InvalidPayload { field: "room", problem: "must be a non-empty string" };
    let name: String =
        inbound.args.first().and_then(|a| serde_json::from_str(a.get()).ok()).ok_or(problem.clone())?;
    RoomId::new(name).ok_or(problem)
}
