//! Rights to rooms by pattern and claim. Deny by default: a room that no rule grants is refused.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Identity;

/// One rule as it stands in the configuration: which rooms, and what a token must show. All conditions given must hold.
///
/// `room` is literal text with at most one `*`, which matches any non-empty rest; what it matched is the *id* that
/// `claim` and `own` speak of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// For example `topic:*`, `visit:*`, `lobby`.
    pub room: String,
    /// Roles that are granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// A claim whose value is the id, or a list that contains it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// The id must be the user's own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
    /// Every authenticated user. Excludes the other conditions.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any: bool,
}

/// A rule that says nothing, or two things at once.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RightsError {
    #[error("rule for `{0}`: more than one `*`")]
    TwoWildcards(String),
    #[error("rule for `{0}`: needs one of `any`, `roles`, `claim`, `own`")]
    NoCondition(String),
    #[error("rule for `{0}`: `any` excludes `roles`, `claim` and `own`")]
    AnyAndMore(String),
    #[error("rule for `{0}`: `claim` and `own` need a `*` in `room`")]
    NoId(String),
}

/// A checked list of rules; a room is granted if any rule grants it.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    rules: Vec<Rule>,
}

impl Rights {
    /// All mistakes at once.
    pub fn new(rules: Vec<Rule>) -> Result<Self, Vec<RightsError>> {
        let mistakes: Vec<_> = rules.iter().filter_map(|rule| rule.mistake()).collect();
        if mistakes.is_empty() { Ok(Self { rules }) } else { Err(mistakes) }
    }

    pub fn grants(&self, identity: &Identity, room: &str) -> bool {
        self.rules.iter().any(|rule| rule.grants(identity, room))
    }
}

impl Rule {
    fn mistake(&self) -> Option<RightsError> {
        let conditions = !self.roles.is_empty() || self.claim.is_some() || self.own;
        let room = || self.room.clone();
        match self.room.matches('*').count() {
            0 if self.own || self.claim.is_some() => Some(RightsError::NoId(room())),
            2.. => Some(RightsError::TwoWildcards(room())),
            _ if self.any && conditions => Some(RightsError::AnyAndMore(room())),
            _ if !self.any && !conditions => Some(RightsError::NoCondition(room())),
            _ => None,
        }
    }

    fn grants(&self, identity: &Identity, room: &str) -> bool {
        let Some(id) = self.id_in(room) else { return false };
        if self.any {
            return true;
        }
        let role = self.roles.is_empty()
            || identity.role.as_deref().is_some_and(|role| self.roles.iter().any(|r| r == role));
        let claim = self
            .claim
            .as_ref()
            .is_none_or(|name| identity.claims.get(name).is_some_and(|value| names(value, id)));
        let own = !self.own || identity.user.as_str() == id;
        role && claim && own
    }

    /// What `*` matched (empty for a literal rule); `None` if the room does not match.
    fn id_in<'a>(&self, room: &'a str) -> Option<&'a str> {
        match self.room.split_once('*') {
            None => (room == self.room).then_some(""),
            Some((head, tail)) => {
                let id = room.strip_prefix(head)?.strip_suffix(tail)?;
                (!id.is_empty()).then_some(id)
            }
        }
    }
}

/// Whether a claim's value is `id`, or a list containing it. `7` and `"7"` are the same id.
fn names(claim: &Value, id: &str) -> bool {
    match claim {
        Value::String(text) => text == id,
        Value::Number(n) => n.to_string() == id,
        Value::Array(list) => list.iter().any(|item| !item.is_array() && names(item, id)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UserId;

    fn identity(role: &str, claims: Value) -> Identity {
        Identity {
            user: UserId::new("7").unwrap(),
            numeric: true,
            role: Some(role.into()),
            name: None,
            token_id: None,
            expires_at: None,
            claims: claims.as_object().unwrap().clone(),
        }
    }

    fn rule(json: Value) -> Rule {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn deny_by_default_and_grant_by_what_the_token_shows() {
        let rights = Rights::new(vec![
            rule(serde_json::json!({"room": "topic:*", "any": true})),
            rule(serde_json::json!({"room": "visit:*", "claim": "visits"})),
            rule(serde_json::json!({"room": "visit:*", "roles": ["admin"]})),
            rule(serde_json::json!({"room": "notifications:*", "own": true})),
            rule(serde_json::json!({"room": "ward:*", "roles": ["nurse"], "claim": "ward"})),
        ])
        .unwrap();
        let patient = identity("patient", serde_json::json!({"visits": [1, "b.2"], "ward": "x"}));
        let admin = identity("admin", serde_json::json!({}));
        let nurse = identity("nurse", serde_json::json!({"ward": "x"}));
        let cases = [
            (&patient, "topic:news", true),
            (&patient, "topic:", false),
            (&patient, "visit:1", true),
            (&patient, "visit:b.2", true),
            (&patient, "visit:2", false),
            (&patient, "visit:[1,\"b.2\"]", false),
            (&patient, "notifications:7", true),
            (&patient, "notifications:8", false),
            (&patient, "ward:x", false),
            (&patient, "anything", false),
            (&admin, "visit:99", true),
            (&nurse, "ward:x", true),
            (&nurse, "ward:y", false),
        ];
        for (who, room, granted) in cases {
            assert_eq!(rights.grants(who, room), granted, "{:?} {room}", who.role);
        }
        assert!(!Rights::default().grants(&admin, "topic:news"));
    }

    #[test]
    fn mistaken_rules_are_all_named() {
        let mistakes = Rights::new(vec![
            rule(serde_json::json!({"room": "a:*:*", "any": true})),
            rule(serde_json::json!({"room": "a"})),
            rule(serde_json::json!({"room": "a", "any": true, "roles": ["x"]})),
            rule(serde_json::json!({"room": "a", "own": true})),
        ])
        .unwrap_err();
        assert_eq!(mistakes.len(), 4);
    }
}
