//! What the dialects with notifications have in common: the three questions of clients (`notification:getUnreadCount`,
//! `notification:list`, `notification:read`), and the back end's wish to notify. Whose notifications they are is never asked: the
//! socket's own user's.
//!
//! Start at [`asked`] for clients and [`Notice`] for back ends.

use std::borrow::Cow;

use domain::{Rejection, RoomId, UserId};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::contract::{Said, asks, calls};
use crate::{
    Action, Actions, BackendAction, BackendCall, BackendEmission, BackendVerb, Command, Delivery, Emission,
    Inbound, Out, Outcome,
};

/// The three questions, for the applications' contracts.
pub(crate) const READ: Said = asks(
    "notification:read",
    "{ notificationId: Id }",
    "{ success: true, notificationId: Id, unreadCount: integer }",
    "A notification is read and gone.",
);
pub(crate) const UNREAD_COUNT: Said =
    calls("notification:getUnreadCount", "{ success: true, unreadCount: integer }", "How many are unread.");
pub(crate) const LIST: Said = asks(
    "notification:list",
    "{ limit?: integer, before?: Id }",
    "{ success: true, notifications: Notification[], hasMore: boolean, unreadCount: integer }",
    "The unread ones, newest first.",
);

/// A notification to keep until it is read, and to tell on all of the user's devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub user: UserId,
    pub event: Cow<'static, str>,
    /// A JSON object; it passes as it is, with an `id` besides if it has none.
    pub object: Box<str>,
    /// Ids of sockets that are not told.
    pub except: Vec<Box<str>>,
}

/// What a user asks of the own notifications.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotificationAct {
    Unread,
    Read {
        name: Box<str>,
    },
    /// `limit`: `None` for the configured page.
    List {
        limit: Option<usize>,
        before: Option<Box<str>>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotificationOutcome {
    Unread(usize),
    /// `news`: it was not read before.
    Read {
        unread: usize,
        news: bool,
    },
    Page(NotificationPage),
}

/// Newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationPage {
    /// JSON objects as they were told, and when (milliseconds since the Unix epoch).
    pub list: Vec<(Box<str>, u64)>,
    pub has_more: bool,
    pub unread: usize,
}

/// Words a refusal: event, whether an ack is wanted, why.
pub type Refuse = fn(&str, bool, &Rejection) -> Actions;

/// Events whose names begin with `notification:`. `devices`: the room of all of the user's devices.
pub fn asked(inbound: &Inbound<'_>, devices: Option<RoomId>, refuse: Refuse) -> Result<Actions, Rejection> {
    match inbound.name {
        "notification:getUnreadCount" => Ok(count(inbound, refuse)),
        "notification:list" => list(inbound, refuse),
        "notification:read" => read(inbound, devices, refuse),
        _ => Err(Rejection::UnknownEvent),
    }
}

/// The callback is the only argument; what else may stand there is ignored.
fn count(inbound: &Inbound<'_>, refuse: Refuse) -> Actions {
    answered(inbound, NotificationAct::Unread, refuse, |outcome| match outcome {
        NotificationOutcome::Unread(unread) => {
            vec![Action::Ack(Out::json(&json!({ "success": true, "unreadCount": unread })))]
        }
        _ => Actions::new(),
    })
}

fn list(inbound: &Inbound<'_>, refuse: Refuse) -> Result<Actions, Rejection> {
    let given = inbound.args.first().is_some_and(|raw| raw.get() != "null");
    let payload: Map<String, Value> = if given { inbound.object()? } else { Map::new() };
    let limit = payload.get("limit").filter(|value| !value.is_null());
    let limit = limit.map(|value| value.as_u64().filter(|limit| *limit > 0).ok_or(LIMIT)).transpose()?;
    let before = payload.get("before").filter(|value| !value.is_null());
    let before = before.map(|value| name("before", value)).transpose()?;
    let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(answered(inbound, NotificationAct::List { limit, before }, refuse, |outcome| match outcome {
        NotificationOutcome::Page(page) => vec![Action::Ack(listed(&page))],
        _ => Actions::new(),
    }))
}

const LIMIT: Rejection = Rejection::InvalidPayload { field: "limit", problem: "must be an integer from 1" };

/// The user's other devices hear that one was read, so that they count alike.
fn read(inbound: &Inbound<'_>, devices: Option<RoomId>, refuse: Refuse) -> Result<Actions, Rejection> {
    let payload: Map<String, Value> = inbound.object()?;
    let missing = Rejection::InvalidPayload { field: "notificationId", problem: "is missing" };
    let wire_id = payload.get("notificationId").ok_or(missing)?.clone();
    let act = NotificationAct::Read { name: name("notificationId", &wire_id)? };
    Ok(run(inbound, act, refuse, move |outcome| {
        let NotificationOutcome::Read { unread, news } = outcome else { return Actions::new() };
        let told = json!({ "notificationId": wire_id, "unreadCount": unread });
        let emission = |room| Emission {
            rooms: vec![room],
            event: "notification:read".into(),
            args: Out::json(&told),
            delivery: Delivery::Recoverable,
            except_self: true,
        };
        let ack = json!({ "success": true, "notificationId": wire_id, "unreadCount": unread });
        let mut actions = vec![Action::Ack(Out::json(&ack))];
        actions.extend(devices.filter(|_| news).map(|room| Action::run(Command::Emit(emission(room)))));
        actions
    }))
}

/// A question without an ack has nobody to answer.
fn answered(
    inbound: &Inbound<'_>,
    act: NotificationAct,
    refuse: Refuse,
    then: impl FnOnce(NotificationOutcome) -> Actions + 'static,
) -> Actions {
    if inbound.wants_ack { run(inbound, act, refuse, then) } else { Actions::new() }
}

fn run(
    inbound: &Inbound<'_>,
    act: NotificationAct,
    refuse: Refuse,
    then: impl FnOnce(NotificationOutcome) -> Actions + 'static,
) -> Actions {
    let (event, wants_ack) = (inbound.name.to_owned(), inbound.wants_ack);
    vec![Action::Run(
        Command::Notifications(act),
        Box::new(move |_, outcome| match outcome {
            Ok(Outcome::Notifications(outcome)) => then(outcome),
            Err(rejection) => refuse(&event, wants_ack, &rejection),
            _ => Actions::new(),
        }),
    )]
}

fn listed(page: &NotificationPage) -> Out {
    let objects = page.list.iter().map(|(object, at_ms)| {
        let time = Value::from(crate::time::iso8601(*at_ms));
        with_member(object, "timestamp", &time).into_owned()
    });
    let objects = objects.collect::<Vec<_>>().join(",");
    let (has_more, unread) = (page.has_more, page.unread);
    let text = format!(
        r#"{{"success":true,"notifications":[{objects}],"hasMore":{has_more},"unreadCount":{unread}}}"#
    );
    Out::raw(text, Vec::new())
}

/// The text of a JSON object with a member besides, unless it has one of this name.
pub fn with_member<'a>(object: &'a str, key: &str, value: &Value) -> Cow<'a, str> {
    match serde_json::from_str::<std::collections::HashMap<Cow<'_, str>, serde::de::IgnoredAny>>(object) {
        Ok(members) if members.contains_key(key) => Cow::Borrowed(object),
        Ok(members) => {
            let rest = object.trim_start().trim_start_matches('{');
            let comma = if members.is_empty() { "" } else { "," };
            Cow::Owned(format!("{{{}:{value}{comma}{rest}", Value::from(key)))
        }
        Err(_) => Cow::Borrowed(object),
    }
}

fn name(field: &'static str, value: &Value) -> Result<Box<str>, Rejection> {
    let problem = "must be a non-empty string of at most 128 bytes, or an integer";
    domain::notification::name_of(value).map_err(|_| Rejection::InvalidPayload { field, problem })
}

/// The back end's typed call that notifies a user, in every application with notifications.
pub const VERB: BackendVerb = BackendVerb {
    name: "notify",
    summary: "Keeps a notification until its user has read it, and tells it on all of the user's devices.",
    example: r#"{"userId":7,"notification":{"title":"Lab results","message":"Your results are ready"}}"#,
};

/// [`VERB`]. `event`: how the application's clients hear of it.
pub fn notify(call: &BackendCall<'_>, event: &'static str) -> Result<Vec<BackendAction>, Rejection> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(rename = "userId")]
        user: Value,
        #[serde(borrow)]
        notification: &'a RawValue,
    }
    let body: Body<'_> = serde_json::from_str(call.body.get()).map_err(|_| Rejection::InvalidPayload {
        field: "body",
        problem: "must be an object with userId and notification",
    })?;
    let user = UserId::from_json(&body.user).ok_or(Rejection::InvalidPayload {
        field: "userId",
        problem: "must be a non-empty string or an integer",
    })?;
    let object = object_text(body.notification)
        .ok_or(Rejection::InvalidPayload { field: "notification", problem: "must be an object" })?;
    let notice = Notice { user, event: event.into(), object, except: Vec::new() };
    Ok(vec![BackendAction::Notify(Box::new(notice))])
}

/// A plain emission of the application's notification event: kept for the users that it is for by name, told to all others only.
/// What is not one object, or may be lost, is told only. `devices`: the room of all of a user's devices.
pub fn told(
    event: &str,
    users: Vec<UserId>,
    mut emission: BackendEmission,
    devices: impl Fn(UserId) -> Option<RoomId>,
) -> Vec<BackendAction> {
    let is_notification = emission.event == event && emission.delivery == Delivery::Recoverable;
    let Some(object) = single_object(&emission.args).filter(|_| is_notification) else {
        return vec![BackendAction::Emit(emission)];
    };
    let notice = |user: &UserId| Notice {
        user: user.clone(),
        event: emission.event.clone(),
        object: object.clone(),
        except: emission.except.clone(),
    };
    let notices: Vec<Notice> = users.iter().map(notice).collect();
    let kept: Vec<RoomId> = users.into_iter().filter_map(devices).collect();
    emission.rooms.retain(|room| !kept.contains(room));
    let rest = (!emission.rooms.is_empty()).then_some(BackendAction::Emit(emission));
    notices.into_iter().map(|notice| BackendAction::Notify(Box::new(notice))).chain(rest).collect()
}

fn single_object(args: &Out) -> Option<Box<str>> {
    let text = std::str::from_utf8(&args.tail).ok().filter(|_| args.attachments.is_empty())?;
    let value: &RawValue = serde_json::from_str(text).ok()?;
    object_text(value)
}

/// The text of an object; `None`: it is something else.
fn object_text(value: &RawValue) -> Option<Box<str>> {
    let text = value.get().trim();
    text.starts_with('{').then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_added_to_the_text_as_it_is() {
        let id = Value::from("01\"X");
        let cases = [
            ("{}", r#"{"id":"01\"X"}"#),
            (" {\"a\":1.0, \"b\":{\"id\":2}}", "{\"id\":\"01\\\"X\",\"a\":1.0, \"b\":{\"id\":2}}"),
            (r#"{"id":9}"#, r#"{"id":9}"#),
            (r#"{"\u0069d":9}"#, r#"{"\u0069d":9}"#),
        ];
        for (object, expected) in cases {
            assert_eq!(with_member(object, "id", &id), expected);
        }
    }

    #[test]
    fn a_page_carries_times() {
        let page = NotificationPage { list: vec![(r#"{"id":1}"#.into(), 0)], has_more: true, unread: 3 };
        let answer: Value = serde_json::from_slice(&listed(&page).tail).unwrap();
        assert_eq!(
            answer,
            json!({ "success": true, "notifications": [{ "id": 1, "timestamp": "1970-01-01T00:00:00.000Z" }],
                "hasMore": true, "unreadCount": 3 })
        );
    }

    #[test]
    fn a_plain_emission_of_a_notification_is_kept_for_the_users_it_names() {
        let room = |user: UserId| RoomId::new(format!("user_{user}"));
        let user = |id: &str| UserId::new(id).unwrap();
        let emission = |event: &'static str, args: Out, delivery| BackendEmission {
            rooms: vec![room(user("7")).unwrap(), RoomId::new("topic:x").unwrap()],
            event: event.into(),
            args,
            except: vec!["s1".into()],
            delivery,
        };
        let object = || Out::json(&json!({ "title": "t" }));
        let kept = told("n:new", vec![user("7")], emission("n:new", object(), Delivery::Recoverable), room);
        let [BackendAction::Notify(notice), BackendAction::Emit(rest)] = &kept[..] else {
            panic!("{kept:?}")
        };
        assert_eq!(
            (notice.user.as_str(), &*notice.object, notice.except.len()),
            ("7", r#"{"title":"t"}"#, 1)
        );
        assert_eq!(rest.rooms, [RoomId::new("topic:x").unwrap()]);
        for (users, event, args, delivery) in [
            (vec![], "n:new", object(), Delivery::Recoverable),
            (vec![user("7")], "other", object(), Delivery::Recoverable),
            (vec![user("7")], "n:new", object(), Delivery::Ephemeral),
            (vec![user("7")], "n:new", object().and(&1), Delivery::Recoverable),
            (vec![user("7")], "n:new", Out::json(&"text"), Delivery::Recoverable),
            (vec![user("7")], "n:new", Out::none().and_binary(vec![1].into()), Delivery::Recoverable),
        ] {
            let told = told("n:new", users, emission(event, args, delivery), room);
            let [BackendAction::Emit(emission)] = &told[..] else { panic!("{told:?}") };
            assert_eq!(emission.rooms.len(), 2);
        }
    }
}
