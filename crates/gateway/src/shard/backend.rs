//! What a back end's call does, carried out on this thread: events told, messages stored and told.

use std::rc::Rc;

use cluster::TraceParent;
use dialects::{BackendAction, Delivery};
use domain::Rejection;
use serde_json::Value;

use super::emit::{Stamp, Telling};
use super::{Shard, chat};
use crate::members::{self, Move};
use crate::revocation::{self, Revoked, Terms};

/// Carries one action out; settles when what it stores is stored. Under the same stamp nothing is stored twice. Answers with what
/// the caller is told besides, and under which name.
pub async fn carry_out(
    shard: &Rc<Shard>,
    app: u16,
    action: BackendAction,
    stamp: Stamp,
    trace: Option<TraceParent>,
) -> Result<Option<(&'static str, Value)>, Rejection> {
    let namespace = &shard.shared.app(app).config.namespace;
    match action {
        BackendAction::Emit(emission) => {
            if emission.rooms.is_empty() {
                return Ok(None);
            }
            let telling = Telling {
                app,
                namespace,
                rooms: &emission.rooms,
                event: &emission.event,
                args: &emission.args,
                except: emission.except.iter().map(|id| &**id).collect(),
                receipt: None,
                trace,
            };
            match emission.delivery {
                Delivery::Ephemeral => telling.publish(shard)?,
                Delivery::Recoverable => telling.store(shard, stamp).await?,
            }
            Ok(None)
        }
        BackendAction::Post(post) => {
            let args = post.args;
            let message =
                chat::post(shard, chat::Origin { app, namespace, socket: None, trace }, *post).await?;
            let said = serde_json::from_slice(&args(&message).tail).unwrap_or_default();
            Ok(Some(("posted", said)))
        }
        BackendAction::Record(record) => {
            let seq = super::feeds::record(shard, app, &record, stamp).await?;
            Ok(Some(("seq", seq.into())))
        }
        BackendAction::Notify(notice) => {
            let said = crate::notifications::notify(shard, app, *notice, stamp).await?;
            Ok(Some(("notified", said)))
        }
        BackendAction::Fact(fact) => {
            crate::facts::learn(&shard.shared.bus, shard.shared.app(app), &fact).await?;
            Ok(None)
        }
        BackendAction::Move { user, join, leave } => {
            let name = shard.shared.app(app).name().to_owned();
            let order = Move { app: name, user, join, leave };
            let moved = members::everywhere(&shard.shared, &order).await?;
            Ok(Some(("moved", moved.into())))
        }
        BackendAction::Revoke(user) => {
            let (bus, app) = (&shard.shared.bus, shard.shared.app(app));
            let stored = revocation::revoke(bus, app, &Revoked::User(user), &Terms::default()).await;
            stored.map(|_| None).map_err(|_| Rejection::Unavailable)
        }
        BackendAction::Restore(user) => {
            let (bus, app) = (&shard.shared.bus, shard.shared.app(app));
            let stored = revocation::restore(bus, app, &Revoked::User(user)).await;
            stored.map(|_| None).map_err(|_| Rejection::Unavailable)
        }
    }
}
