//! Messages are edited by their authors and deleted by them or by an administrator. What is deleted stays as a tombstone.

use serde_json::{Map, Value};

use super::{ChatLimits, Message, Refusal, Tombstone, check_text};
use crate::{Rejection, UserId};

/// What a message is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Amendment {
    Edit { text: String },
    Delete,
}

/// Who changes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Editor {
    pub user: UserId,
    /// As clients see it.
    pub wire_id: Value,
    /// May delete what others wrote.
    pub administers: bool,
}

/// The message after the change, its `rev` one higher; to delete what is deleted changes nothing.
pub fn amend(
    message: &Message,
    amendment: &Amendment,
    editor: &Editor,
    limits: &ChatLimits,
    now_ms: u64,
) -> Result<Message, Rejection> {
    let own = message.sender == editor.user;
    match amendment {
        Amendment::Edit { .. } if !own => Err(Refusal::NotAuthor.into()),
        Amendment::Edit { .. } if message.deleted.is_some() => Err(Refusal::Deleted.into()),
        Amendment::Edit { text } => {
            check_text(text, message.attachments.is_empty(), limits)?;
            Ok(Message {
                text: text.clone(),
                rev: message.rev + 1,
                edited_ms: Some(now_ms.max(message.changed_ms())),
                ..message.clone()
            })
        }
        Amendment::Delete if !own && !editor.administers => Err(Refusal::NotAdministrator.into()),
        Amendment::Delete if message.deleted.is_some() => Ok(message.clone()),
        Amendment::Delete => Ok(Message {
            text: String::new(),
            attachments: Vec::new(),
            metadata: Map::new(),
            rev: message.rev + 1,
            deleted: Some(Tombstone { by: editor.wire_id.clone(), at_ms: now_ms.max(message.changed_ms()) }),
            ..message.clone()
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Draft, Head, decide};
    use super::*;
    use crate::RoomId;

    fn editor(user: &str, administers: bool) -> Editor {
        Editor { user: UserId::new(user).unwrap(), wire_id: user.into(), administers }
    }

    fn message() -> Message {
        let room = RoomId::new("r").unwrap();
        let draft = Draft {
            attachments: vec![json!({ "url": "x" })],
            ..Draft::new(room, UserId::new("ann").unwrap(), "ann".into(), "hi")
        };
        decide(&Head::default(), &draft, &ChatLimits::default(), 10).unwrap()
    }

    fn change(message: &Message, amendment: Amendment, editor: &Editor) -> Result<Message, &'static str> {
        amend(message, &amendment, editor, &ChatLimits::default(), 20).map_err(|rejection| rejection.code())
    }

    fn edit(text: &str) -> Amendment {
        Amendment::Edit { text: text.into() }
    }

    #[test]
    fn an_edit_is_its_authors_alone() {
        let edited = change(&message(), edit("ho"), &editor("ann", false)).unwrap();
        assert_eq!((&*edited.text, edited.rev, edited.edited_ms, edited.n), ("ho", 1, Some(20), 1));
        assert_eq!(change(&message(), edit("ho"), &editor("bob", true)), Err("not_author"));
        assert_eq!(change(&message(), edit(&"x".repeat(4097)), &editor("ann", false)), Err("over_limit"));
        assert!(change(&message(), edit(""), &editor("ann", false)).is_ok(), "the attachment is left");
    }

    #[test]
    fn a_deleted_message_is_a_tombstone_for_good() {
        let gone = change(&message(), Amendment::Delete, &editor("ann", false)).unwrap();
        assert_eq!((&*gone.text, gone.attachments.len(), gone.rev), ("", 0, 1));
        assert_eq!(gone.deleted, Some(Tombstone { by: "ann".into(), at_ms: 20 }));
        assert_eq!(change(&gone, Amendment::Delete, &editor("root", true)).as_ref(), Ok(&gone));
        assert_eq!(change(&gone, edit("back"), &editor("ann", false)), Err("message_deleted"));
    }

    #[test]
    fn others_delete_only_as_administrators() {
        assert_eq!(change(&message(), Amendment::Delete, &editor("bob", false)), Err("not_administrator"));
        let gone = change(&message(), Amendment::Delete, &editor("bob", true)).unwrap();
        assert_eq!(gone.deleted.unwrap().by, "bob");
    }

    #[test]
    fn the_clock_of_another_node_does_not_take_a_change_back() {
        let edited = change(&message(), edit("ho"), &editor("ann", false)).unwrap();
        let later = amend(&edited, &edit("he"), &editor("ann", false), &ChatLimits::default(), 5).unwrap();
        assert_eq!((later.rev, later.edited_ms), (2, Some(20)));
    }
}
