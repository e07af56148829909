//! The two feeds: what administrators did, for administrators, and what changed in the catalogue, for clients that were away.

use domain::Rejection;
use serde_json::{Map, Value, json};

use super::{Asked, ClinicSettings, invalid, join, rooms};
use crate::{Action, Actions, Command, FeedEntry, FeedPage, FeedSpec, Inbound, Out, Outcome, Span};

pub const AUDIT: &str = "audit";
pub const CATALOG: &str = "catalog";

/// The event that tells how far the catalogue is, to those who asked once.
pub const CATALOG_SEQ: &str = "catalog:seq";

pub fn specs(settings: &ClinicSettings) -> Vec<FeedSpec> {
    vec![
        FeedSpec { name: AUDIT, kept: settings.audit_kept },
        FeedSpec { name: CATALOG, kept: settings.catalog_kept },
    ]
}

/// The newest entries of the audit feed, for an administrator who connects; nothing where there are none.
pub fn audit_at_connect(settings: &ClinicSettings) -> Action {
    let span = Span::Last(settings.audit_shown);
    Action::Run(
        Command::Feed { feed: AUDIT, span },
        Box::new(|_, outcome| match outcome {
            Ok(Outcome::Feed(page)) if page.entries.is_empty() => Actions::new(),
            Ok(Outcome::Feed(page)) => {
                vec![Action::emit("admin:events", Out::json(&Value::from(audit_page(&page))))]
            }
            Ok(_) => Actions::new(),
            Err(rejection) => crate::refused("admin:events", false, &rejection),
        }),
    )
}

/// `admin:events` `{ limit?, before? }`.
pub fn audit(settings: &ClinicSettings, inbound: &Inbound<'_>) -> Result<Actions, Rejection> {
    let payload = options(inbound)?;
    let limit = number(&payload, "limit")?.unwrap_or(settings.audit_shown).min(settings.page_entries);
    let span = match number(&payload, "before")? {
        Some(seq) => Span::Before { seq, limit },
        None => Span::Last(limit),
    };
    let asked = Asked::of(inbound);
    Ok(vec![Action::Run(
        Command::Feed { feed: AUDIT, span },
        Box::new(move |_, outcome| match outcome {
            Ok(Outcome::Feed(page)) => asked.done("admin:events", audit_page(&page)),
            Ok(_) => asked.refuse(&Rejection::Unavailable),
            Err(rejection) => asked.refuse(&rejection),
        }),
    )])
}

/// `catalog:sync` `{ since? }`: what changed after that number, and from now on the number of each change. Without `since` only the
/// number as it is. First the room, then the feed: a change in between is told twice rather than never.
pub fn sync_catalog(settings: &ClinicSettings, inbound: &Inbound<'_>) -> Result<Actions, Rejection> {
    let since = number(&options(inbound)?, "since")?;
    let span = match since {
        Some(seq) => Span::After { seq, limit: settings.page_entries },
        None => Span::Last(0),
    };
    let asked = Asked::of(inbound);
    Ok(vec![Action::Run(
        Command::Join(vec![join(rooms::catalog())]),
        Box::new(move |_, outcome| match outcome {
            Ok(_) => vec![Action::Run(
                Command::Feed { feed: CATALOG, span },
                Box::new(move |_, outcome| match outcome {
                    Ok(Outcome::Feed(page)) => asked.done("catalog:synced", catalog_page(since, &page)),
                    Ok(_) => asked.refuse(&Rejection::Unavailable),
                    Err(rejection) => asked.refuse(&rejection),
                }),
            )],
            Err(rejection) => asked.refuse(&rejection),
        }),
    )])
}

fn audit_page(page: &FeedPage) -> Map<String, Value> {
    let has_more = page.entries.first().is_some_and(|entry| entry.seq > 1) && !page.is_cut;
    let mut body = Map::new();
    body.insert("events".into(), page.entries.iter().map(numbered).collect());
    body.insert("hasMore".into(), has_more.into());
    body
}

/// `seq` is what the client says next time; with `complete: false` its copy of the catalogue is to be loaded anew.
fn catalog_page(since: Option<u64>, page: &FeedPage) -> Map<String, Value> {
    let reached = page.entries.last().map_or(page.last, |entry| entry.seq);
    let is_future = since.is_some_and(|since| since > page.last);
    let complete = !page.is_cut && !is_future;
    let mut body = Map::new();
    body.insert("seq".into(), if complete { reached } else { page.last }.into());
    body.insert("complete".into(), complete.into());
    let updates: Vec<Value> = if complete { page.entries.iter().map(numbered).collect() } else { Vec::new() };
    body.insert("updates".into(), updates.into());
    body.insert("hasMore".into(), (complete && reached < page.last).into());
    body
}

/// An entry with its number.
fn numbered(entry: &FeedEntry) -> Value {
    let mut value: Value = serde_json::from_str(entry.json.get()).unwrap_or_else(|_| json!({}));
    if let Some(object) = value.as_object_mut() {
        object.insert("seq".into(), entry.seq.into());
    }
    value
}

/// The payload's object; without any, an empty one.
fn options(inbound: &Inbound<'_>) -> Result<Map<String, Value>, Rejection> {
    if inbound.args.first().is_none_or(|raw| raw.get() == "null") {
        return Ok(Map::new());
    }
    inbound.object()
}

fn number(payload: &Map<String, Value>, field: &'static str) -> Result<Option<u64>, Rejection> {
    match payload.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_u64().map(Some).ok_or(invalid(field, "must be a whole number")),
    }
}
