//! In and out of calls.

use cluster::coordination::{self, Reply, Request};
use domain::call::{Act, CallId, Command, Refusal, UserCall, UserCallState, UserCalls, call_room, seat_room};
use domain::presence::{DeviceRecord, Presence, Status, watchers_room};
use serde_json::{Value, json};

use super::client::{Client, Heard, Polling};
use super::stage::{APP, Stage, call_of, soon, user};

const OWN_ROOM: &str = "notifications:b";

fn call_id() -> CallId {
    CallId::new("01CALL").unwrap()
}

fn command(request: Request) -> Command {
    match request {
        Request::Call(command) => *command,
        other @ Request::Choose { .. } => panic!("{other:?}"),
    }
}

/// B is on its way into the call; what happens meanwhile in its rooms.
async fn knock(stage: &mut Stage, client: &mut Client) -> String {
    client.emit("call:accept", &json!({ "callId": "01CALL" })).await;
    let (request, reply) = stage.asked().await;
    let Command { call, actor, act, .. } = command(request);
    assert_eq!((call, act), (call_id(), Act::Answer { glare: false }));
    assert_eq!(*actor.unwrap().device, *client.id);
    let (room, seat) = (call_room(&call_id()), seat_room(&call_id(), &user("b")));
    stage.signal(seat.as_str(), "offer");
    stage.tell(&[room.as_str()], "secret").await;
    stage.tell(&[room.as_str(), OWN_ROOM], "both").await;
    // Comes down the feed behind all of it.
    stage.tell(&[OWN_ROOM], "meanwhile").await;
    assert_eq!(client.next().await, Heard::event("meanwhile"));
    reply
}

#[tokio::test]
async fn who_is_refused_hears_only_what_other_rooms_bring() {
    let mut stage = Stage::start("refused", 1, json!({})).await;
    let mut client = Client::connect(&stage.nodes[0], "b").await;
    let reply = knock(&mut stage, &mut client).await;
    stage.answer(&reply, &Reply::Refused(Refusal::NotRinging));
    assert_eq!(client.next().await, Heard::event("both"));
    let Heard::Ack(_, answer) = client.next().await else { panic!("no ack") };
    assert_eq!((&answer["success"], &answer["code"]), (&json!(false), &json!("not_ringing")));
    stage.signal(seat_room(&call_id(), &user("b")).as_str(), "late");
    stage.tell(&[call_room(&call_id()).as_str()], "secret").await;
    stage.tell(&[call_room(&call_id()).as_str(), OWN_ROOM], "end").await;
    assert_eq!(client.next().await, Heard::event("end"));
    stage.stop().await;
}

#[tokio::test]
async fn who_is_let_in_hears_all_of_it_once_after_the_answer_and_until_a_view_shows_it_out() {
    let mut stage = Stage::start("let-in", 1, json!({})).await;
    let mut client = Client::connect(&stage.nodes[0], "b").await;
    let reply = knock(&mut stage, &mut client).await;
    let device = client.id.clone();
    let joined = call_of(&call_id(), 5, &[("a", Some("sa")), ("b", Some(&device))]);
    stage.answer(&reply, &Reply::Call(Box::new(joined)));
    let Heard::Ack(_, answer) = client.next().await else { panic!("no ack") };
    assert_eq!(answer["success"], json!(true));
    let mut heard = [client.next().await, client.next().await, client.next().await];
    heard.sort_by_key(|heard| format!("{heard:?}"));
    assert_eq!(heard, ["both", "offer", "secret"].map(Heard::event));
    // An older revision says nothing, a newer one that the device is out.
    let room = call_room(&call_id());
    stage.show(&call_of(&call_id(), 4, &[("b", None)])).await;
    stage.tell(&[room.as_str()], "still").await;
    assert_eq!(client.next().await, Heard::event("still"));
    stage.show(&call_of(&call_id(), 6, &[("a", Some("sa")), ("b", None)])).await;
    stage.tell(&[room.as_str()], "secret").await;
    stage.tell(&[OWN_ROOM], "end").await;
    assert_eq!(client.next().await, Heard::event("end"));
    let refused = client.ask("call:signal", &json!({ "callId": "01CALL", "signal": 1 })).await;
    assert_eq!(refused["code"], json!("not_in_call"));
    stage.stop().await;
}

#[tokio::test]
async fn the_coordinator_knows_the_device_before_it_is_asked() {
    let mut stage = Stage::start("known", 1, json!({})).await;
    for round in 0..20 {
        let mut client = Client::connect(&stage.nodes[0], "b").await;
        client.emit("call:accept", &json!({ "callId": "01CALL" })).await;
        let (_, reply) = stage.asked().await;
        let filter = coordination::devices_filter(&user("b"));
        let entries = stage.bus.kv_list(&coordination::presence_bucket(APP), &filter).await.unwrap();
        let records = entries
            .iter()
            .map(|entry| coordination::decode::<DeviceRecord>(entry.value.as_ref().unwrap()).unwrap());
        let known = records.flat_map(|record| record.devices).any(|device| *device.id == *client.id);
        assert!(known, "round {round}");
        stage.answer(&reply, &Reply::Refused(Refusal::Over));
        client.next().await;
        client.leave().await;
    }
    stage.stop().await;
}

#[tokio::test]
async fn an_answer_by_glare_leads_into_the_other_call() {
    let mut stage = Stage::start("glare", 1, json!({})).await;
    let mut client = Client::connect(&stage.nodes[0], "b").await;
    client.emit("call:initiate", &json!({ "recipientId": "a", "callType": "audio" })).await;
    let (request, reply) = stage.asked().await;
    let minted = command(request).call;
    let device = client.id.clone();
    let seats = [("a", Some("sa")), ("b", Some(&*device))];
    // What the call becomes while its rooms are joined is in its record.
    let record = json!({ "call": call_of(&call_id(), 3, &seats), "told": [] });
    let key = coordination::call_key(&call_id());
    let bucket = coordination::calls_bucket(APP);
    stage.bus.kv_put(&bucket, &key, coordination::encode(&record).into(), None, None).await.unwrap();
    stage.answer(&reply, &Reply::Call(Box::new(call_of(&call_id(), 2, &seats))));
    let Heard::Ack(_, answer) = client.next().await else { panic!("no ack") };
    assert_eq!(answer["callId"], json!("01CALL"));
    client.until("call:accepted").await;
    stage.tell(&[call_room(&minted).as_str()], "secret").await;
    stage.tell(&[call_room(&call_id()).as_str()], "news").await;
    assert_eq!(client.next().await, Heard::event("news"));
    stage.show(&call_of(&call_id(), 3, &[("b", None)])).await;
    stage.tell(&[call_room(&call_id()).as_str()], "more").await;
    assert_eq!(client.next().await, Heard::event("more"), "revision 3 was known");
    stage.stop().await;
}

#[tokio::test]
async fn own_calls_are_read_from_the_records() {
    let mut stage = Stage::start("own", 1, json!({})).await;
    let bucket = coordination::calls_bucket(APP);
    let (live, over) = (call_id(), CallId::new("01OVER").unwrap());
    let mut ended = call_of(&over, 2, &[("a", None), ("b", None)]);
    ended.status = domain::call::Status::Ended;
    for call in [call_of(&live, 1, &[("a", Some("sa")), ("b", Some("other"))]), ended] {
        let record = json!({ "told": [{ "rev": 1 }], "call": call });
        let (key, value) = (coordination::call_key(&call.id), coordination::encode(&record).into());
        stage.bus.kv_put(&bucket, &key, value, None, None).await.unwrap();
    }
    let listed = [live, over, CallId::new("01GONE").unwrap()];
    let entry = |call| UserCall { call, state: UserCallState::In, peer: None };
    let calls = UserCalls { calls: listed.map(entry).into() };
    let (key, value) = (coordination::user_calls_key(&user("b")), coordination::encode(&calls).into());
    stage.bus.kv_put(&bucket, &key, value, None, None).await.unwrap();
    let mut client = Client::connect(&stage.nodes[0], "b").await;
    let Heard::Event(name, active) = client.next().await else { panic!("no event") };
    assert_eq!((name.as_str(), &active["callId"]), ("call:active", &json!("01CALL")));
    stage.tell(&[OWN_ROOM], "end").await;
    assert_eq!(client.next().await, Heard::event("end"));
    stage.stop().await;
}

fn presence(id: &str, status: Status) -> Presence {
    Presence {
        user: user(id),
        wire_id: id.into(),
        choice: Default::default(),
        status,
        last_seen_ms: None,
        rev: 1,
        changed_ms: 1,
        told: Vec::new(),
    }
}

fn statuses(answer: &Value) -> Vec<&str> {
    let presences = answer["presences"].as_array().unwrap_or_else(|| panic!("{answer}"));
    presences.iter().map(|presence| presence["status"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn presences_are_read_in_order_and_watched_up_to_the_limit() {
    let mut stage = Stage::start("watch", 1, json!({ "watched_per_socket": 2 })).await;
    let bucket = coordination::presence_bucket(APP);
    for (id, status) in [("x", Status::Busy), ("y", Status::Online)] {
        let (key, value) =
            (coordination::presence_key(&user(id)), coordination::encode(&presence(id, status)));
        stage.bus.kv_put(&bucket, &key, value.into(), None, None).await.unwrap();
    }
    let mut client = Client::connect(&stage.nodes[0], "b").await;
    let answer = client.ask("presence:get", &json!({ "userIds": ["y", "nobody", "x"] })).await;
    assert_eq!(statuses(&answer), ["online", "offline", "busy"]);
    let refused = client.ask("presence:subscribe", &json!({ "userIds": ["x", "y", "z"] })).await;
    assert!(refused["error"].as_str().unwrap().contains("presence.watched_per_socket"), "{refused}");
    // Two of the three are watched.
    let rooms = ["x", "y", "nobody"].map(|id| watchers_room(&user(id)));
    for room in &rooms {
        stage.tell(&[room.as_str()], room.as_str()).await;
    }
    stage.tell(&[OWN_ROOM], "end").await;
    assert_eq!(client.until("end").await.len(), 3);
    let unwatched = json!({ "userIds": ["x", "y", "nobody"] });
    assert_eq!(client.ask("presence:unsubscribe", &unwatched).await["success"], json!(true));
    let answer = client.ask("presence:subscribe", &json!({ "userIds": ["x", "z"] })).await;
    assert_eq!(statuses(&answer), ["busy", "offline"]);
    for room in &rooms {
        stage.tell(&[room.as_str()], room.as_str()).await;
    }
    stage.tell(&[OWN_ROOM], "end").await;
    assert_eq!(client.until("end").await, [Heard::event(rooms[0].as_str()), Heard::event("end")]);
    stage.stop().await;
}

#[tokio::test]
async fn a_session_that_moves_stays_in_its_calls_and_watches_on() {
    let mut stage = Stage::start("move", 2, json!({})).await;
    let polling = Polling::connect(&stage.nodes[0], "b").await;
    let device = polling.id.clone();
    let accept = json!(["call:accept", { "callId": "01CALL" }]);
    polling.post(&format!("421{accept}")).await;
    let (_, reply) = stage.asked().await;
    let joined = call_of(&call_id(), 5, &[("a", Some("sa")), ("b", Some(&device))]);
    stage.answer(&reply, &Reply::Call(Box::new(joined)));
    polling.until("431[").await;
    polling.post(&format!("422{}", json!(["presence:subscribe", { "userIds": ["x"] }]))).await;
    polling.until("432[").await;

    let mut client = polling.upgrade(&stage.nodes[1]).await;
    let (room, seat) = (call_room(&call_id()), seat_room(&call_id(), &user("b")));
    stage.tell(&[room.as_str()], "call").await;
    stage.tell(&[watchers_room(&user("x")).as_str()], "watched").await;
    assert_eq!(client.next().await, Heard::event("call"));
    assert_eq!(client.next().await, Heard::event("watched"));
    stage.signal(seat.as_str(), "offer");
    assert_eq!(client.next().await, Heard::event("offer"));
    // The new node knows the view: it relays, and lets the socket go when it is out.
    let signal = json!({ "callId": "01CALL", "signal": { "sdp": 1 } });
    client.emit("call:signal", &signal).await;
    let Heard::Ack(_, relayed) = client.next().await else { panic!("no ack") };
    assert_eq!(relayed["success"], json!(true));
    let (request, reply) = stage.asked().await;
    assert_eq!(command(request).act, Act::Progress);
    // What came before may be the old node's; this is the new one's.
    stage.tell(&[watchers_room(&user("x")).as_str()], "watched").await;
    assert_eq!(client.next().await, Heard::event("watched"));
    stage.answer(&reply, &Reply::Refused(Refusal::Over));
    stage.show(&call_of(&call_id(), 6, &[("a", Some("sa")), ("b", None)])).await;
    stage.tell(&[room.as_str()], "secret").await;
    stage.tell(&[OWN_ROOM], "end").await;
    assert_eq!(client.next().await, Heard::event("end"));
    drop(client);
    soon(stage.stop()).await;
}
