//! What the back end tells: `message-created`, which is `new_message` to the diet and `new_notification` to the receiver;
//! `diet-client`, whose a diet is; `notify`.

use domain::notification::Templates;
use domain::{Rejection, UserId};
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::{Diet, of_diet, rights};
use crate::number::id_json;
use crate::{
    BackendAction, BackendCall, BackendEmission, BackendVerb, Delivery, Fact, Notice, Out, notifying,
};

const VERBS: &[BackendVerb] = &[
    BackendVerb {
        name: "message-created",
        summary: "A message was created in a diet: new_message to the diet, new_notification to who is to read it.",
        example: r#"{"message":{"id":7,"text":"Merhaba"},"dietId":100,"clientId":5,"from":"client","client":{"userId":12,"name":"Ayşe"},"dietitianId":3,"language":"tr"}"#,
    },
    BackendVerb {
        name: "diet-client",
        summary: "Says whose a diet is: dietitians may enter the diets of the clients that their token names. Messages say so too.",
        example: r#"{"dietId":100,"clientId":5}"#,
    },
    notifying::VERB,
];

impl Diet {
    pub(crate) const VERBS: &'static [BackendVerb] = VERBS;

    /// How clients hear of a notification.
    pub(crate) const NOTIFICATION: &'static str = "new_notification";

    pub(crate) fn backend(&self, call: &BackendCall<'_>) -> Result<Vec<BackendAction>, Rejection> {
        match call.name {
            "message-created" => self.message_created(call),
            "diet-client" => diet_client(call),
            "notify" => notifying::notify(call, Self::NOTIFICATION),
            _ => Err(Rejection::UnknownEvent),
        }
    }

    fn message_created(&self, call: &BackendCall<'_>) -> Result<Vec<BackendAction>, Rejection> {
        let body: Created<'_> = serde_json::from_str(call.body.get()).map_err(|_| CREATED)?;
        let (diet, client) = (id(&body.diet, "dietId")?, id(&body.client_id, "clientId")?);
        let message_id = message_id(body.message)?;
        let (ids, raw) = (body.ids(&diet, &client), body.message.get());
        let told = format!(r#"{{"message":{raw},"dietId":{},"clientId":{}}}"#, ids.0, ids.1);
        let emission = BackendEmission {
            rooms: vec![of_diet(&diet).ok_or(Rejection::InvalidRoom("the id is too long"))?],
            event: "new_message".into(),
            args: Out::raw(told, Vec::new()),
            except: Vec::new(),
            delivery: Delivery::Recoverable,
        };
        let (receiver, text) = body.receiver(&self.texts.of(body.language.as_deref()))?;
        let (message_id, from) = (id_json(message_id.as_str()), body.from.name());
        let data = json!({ "messageId": message_id, "dietId": ids.0, "clientId": ids.1, "from": from });
        let object = json!({ "type": "new_message", "message": text, "data": data }).to_string().into();
        let notice = Notice { user: receiver, event: Self::NOTIFICATION.into(), object, except: Vec::new() };
        Ok(vec![
            BackendAction::Fact(Fact { key: rights::fact_key(&diet), value: id_json(client.as_str()) }),
            BackendAction::Emit(emission),
            BackendAction::Notify(Box::new(notice)),
        ])
    }
}

/// The input; unknown keys are ignored.
#[derive(Deserialize)]
struct Created<'a> {
    #[serde(borrow)]
    message: &'a RawValue,
    #[serde(rename = "dietId")]
    diet: Value,
    #[serde(rename = "clientId")]
    client_id: Value,
    from: From,
    #[serde(default, deserialize_with = "object")]
    client: Option<Client>,
    #[serde(rename = "dietitianId", default)]
    dietitian: Value,
    /// The receiver's, such as `tr` or `en-GB`.
    #[serde(default)]
    language: Option<String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
enum From {
    Client,
    Dietitian,
}

#[derive(Deserialize)]
struct Client {
    #[serde(rename = "userId", default)]
    user: Value,
    #[serde(default)]
    name: Option<String>,
}

const CREATED: Rejection = Rejection::InvalidPayload {
    field: "body",
    problem: "must be { message, dietId, clientId, from: client|dietitian, client: { userId, name }, dietitianId }",
};

/// As a text only: serde reads `{ "client": null }` as a variant, too.
impl TryFrom<String> for From {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let known = [Self::Client, Self::Dietitian].into_iter().find(|it| it.name() == name);
        known.ok_or("must be client or dietitian")
    }
}

impl From {
    fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Dietitian => "dietitian",
        }
    }
}

impl Created<'_> {
    fn ids(&self, diet: &UserId, client: &UserId) -> (Value, Value) {
        (id_json(diet.as_str()), id_json(client.as_str()))
    }

    /// Who is to read the message, and in which words.
    fn receiver(&self, texts: &Templates) -> Result<(UserId, String), Rejection> {
        let missing = |field| Rejection::InvalidPayload { field, problem: "is missing" };
        let client = self.client.as_ref();
        match self.from {
            From::Client => {
                let name = client.and_then(|it| it.name.as_deref()).ok_or(missing("client.name"))?;
                Ok((id(&self.dietitian, "dietitianId")?, Templates::fill(&texts.to_dietitian, name)))
            }
            From::Dietitian => {
                let client = client.ok_or(missing("client"))?;
                let name = client.name.as_deref().unwrap_or_default();
                Ok((id(&client.user, "client.userId")?, Templates::fill(&texts.to_client, name)))
            }
        }
    }
}

fn diet_client(call: &BackendCall<'_>) -> Result<Vec<BackendAction>, Rejection> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(rename = "dietId", default)]
        diet: Value,
        #[serde(rename = "clientId", default)]
        client: Value,
    }
    let body: Body = serde_json::from_str(call.body.get())
        .map_err(|_| Rejection::InvalidPayload { field: "body", problem: "must be { dietId, clientId }" })?;
    let (diet, client) = (id(&body.diet, "dietId")?, id(&body.client, "clientId")?);
    Ok(vec![BackendAction::Fact(Fact { key: rights::fact_key(&diet), value: id_json(client.as_str()) })])
}

/// An object or nothing: serde reads a struct from an array, too.
fn object<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    let members = Option::<Map<String, Value>>::deserialize(from)?;
    members.map(|it| serde_json::from_value(Value::Object(it))).transpose().map_err(D::Error::custom)
}

fn message_id(message: &RawValue) -> Result<UserId, Rejection> {
    #[derive(Deserialize)]
    struct Message {
        id: Value,
    }
    let wrong = Rejection::InvalidPayload { field: "message", problem: "must be an object with an id" };
    if !message.get().starts_with('{') {
        return Err(wrong);
    }
    let message: Message = serde_json::from_str(message.get()).map_err(|_| wrong)?;
    id(&message.id, "message.id")
}

fn id(value: &Value, field: &'static str) -> Result<UserId, Rejection> {
    UserId::from_json(value)
        .ok_or(Rejection::InvalidPayload { field, problem: "must be an integer or a non-empty string" })
}
