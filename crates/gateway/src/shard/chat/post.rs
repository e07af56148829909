//! Messages are stored and told, changed and told. What is told of a message has a stamp that the message alone makes, so that who
//! tells it again does not tell it twice.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bus::{Append, AppendError};
use cluster::{Receipt, TraceParent};
use dialects::{Amend, Announcement, Post};
use domain::chat::{self, Message};
use domain::{Rejection, RoomId};
use sha2::{Digest, Sha256};

use super::super::Shard;
use super::super::emit::{Stamp, Telling, append_rejection};
use super::{append, read};
use crate::clock::unix_ms;

/// For so long after its storing a message is told again when somebody asks for it again. Far below the time that events are kept.
const TOLD_AGAIN_MS: u64 = 60_000;

/// Who posts.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    pub app: u16,
    /// Of the receiving sockets.
    pub namespace: &'a str,
    /// The socket that is left out where the post says so; `None`: a back end.
    pub socket: Option<&'a str>,
    pub trace: Option<TraceParent>,
}

/// Stores a message and tells of it. A message that its client has sent before is the one that was stored then.
pub async fn post(shard: &Rc<Shard>, origin: Origin<'_>, post: Post) -> Result<Message, Rejection> {
    let Post { draft, rooms, event, args, except_self, receipt } = post;
    let stored = append(shard, origin.app, draft).await?;
    let message = stored.message;
    if stored.again && (message.rev > 0 || message.at_ms + TOLD_AGAIN_MS < unix_ms()) {
        return Ok(message);
    }
    let args = args(&message);
    let told = receipt.map(|receipt| receipt(&message));
    let telling = Telling {
        app: origin.app,
        namespace: origin.namespace,
        rooms: &rooms,
        event: &event,
        args: &args,
        except: origin.socket.filter(|_| except_self).into_iter().collect(),
        receipt: told.as_ref().and_then(|told| receipt_of(&message, told)),
        trace: origin.trace,
    };
    telling.store_owed(shard, stamp(&message)).await?;
    Ok(message)
}

/// What the nodes of the receivers are told.
pub fn receipt_of<'a>(message: &'a Message, told: &'a Announcement) -> Option<Receipt<'a>> {
    Some(Receipt {
        room: message.room.as_str(),
        n: message.n,
        sender: message.sender.as_str(),
        recipient: message.recipient.as_ref().map(domain::UserId::as_str),
        to: told.rooms.first()?.as_str(),
        event: &told.event,
        tail: &told.args.tail,
    })
}

/// Changes a message where it stands and tells of it. Of changes that meet, each is told before the next.
pub async fn amend(shard: &Rc<Shard>, origin: Origin<'_>, amend: Amend) -> Result<Message, Rejection> {
    let app = shard.shared.app(origin.app);
    let deadline = Instant::now() + Duration::from_millis(app.limits.publish_timeout_ms);
    let (before, after) = loop {
        let found = read::at_leader(shard, app, amend.room.as_str(), amend.n).await?;
        let (before, seq) = found.ok_or(chat::Refusal::UnknownMessage)?;
        let limits = app.dialect.chat_limits();
        let mut after = chat::amend(&before, &amend.amendment, &amend.editor, &limits, unix_ms())?;
        if after == before {
            break (before, after);
        }
        after.head = read::head(shard, app, amend.room.as_str()).await?.last;
        let payload = serde_json::to_vec(&after).expect("a message has string keys");
        let version = Append::expecting(app.chat_subject(amend.room.as_str(), amend.n), seq, payload);
        match shard.shared.bus.append(version, deadline).await {
            Ok(_) => break (before, after),
            Err(AppendError::Conflict { .. }) if Instant::now() < deadline => {}
            Err(error) => return Err(append_rejection(shard, app, &error)),
        }
    };
    tell_change(shard, origin, &before, &after, (amend.tell)(&after)).await?;
    Ok(after)
}

/// An earlier change that has not been told by now never will: this one is told in its place, and then in its own.
async fn tell_change(
    shard: &Rc<Shard>,
    origin: Origin<'_>,
    before: &Message,
    after: &Message,
    told: Announcement,
) -> Result<(), Rejection> {
    let now_ms = unix_ms();
    let recent = |message: &Message| message.changed_ms() + TOLD_AGAIN_MS >= now_ms;
    let rooms: &[RoomId] = &told.rooms;
    let telling = Telling {
        app: origin.app,
        namespace: origin.namespace,
        rooms,
        event: &told.event,
        args: &told.args,
        except: told.except.iter().map(|id| &**id).collect(),
        receipt: None,
        trace: origin.trace,
    };
    if before != after && before.rev > 0 && recent(before) {
        telling.store(shard, stamp(before)).await?;
    }
    if recent(after) { telling.store_owed(shard, stamp(after)).await } else { Ok(()) }
}

/// What is told of this version of a message, whoever tells it, and whenever.
fn stamp(message: &Message) -> Stamp {
    let digest = Sha256::digest(format!("{}.{}", message.rev, message.id()));
    let random = digest[..16].iter().fold(0, |all, byte| all << 8 | u128::from(*byte));
    Stamp { at_ms: message.changed_ms(), random }
}
