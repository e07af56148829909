//! A user's requests of a minute, counted over all nodes: each takes one of as many slots as there may be. A slot is a subject of the
//! application's chat stream that is written once and goes by itself after a minute, as those of messages' senders are.

use std::time::{Duration, Instant};

use bus::{Append, AppendError, Bus, ReadError, ReadOptions};
use bytes::Bytes;
use rand::seq::SliceRandom;

use crate::app::App;

/// How long a slot is taken.
const MINUTE: &str = "60s";

/// A page that waits for its token is not kept waiting for a NATS leader that moves.
const PATIENCE: Duration = Duration::from_secs(1);

/// Why nobody could say.
#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error("the slots were not found out within {} ms", PATIENCE.as_millis())]
    Late,
}

/// Takes a slot; `false`: all are taken. What is read may be old, so only a write that succeeds counts; one that does not is a slot that
/// another node took meanwhile.
pub async fn take(bus: &Bus, app: &App, user: &str, per_minute: u32) -> Result<bool, Unknown> {
    let deadline = Instant::now() + PATIENCE;
    let prefix = app.issue_rate_prefix(user);
    let all = [format!("{prefix}*")];
    let reading = bus.read_last(&app.chat, &all, ReadOptions::default());
    let read = tokio::time::timeout(PATIENCE, reading).await.map_err(|_| Unknown::Late)??;
    let is_free = |slot: &String| !read.iter().any(|taken| taken.subject == *slot);
    let mut free: Vec<String> = (0..per_minute).map(|n| format!("{prefix}{n}")).filter(is_free).collect();
    // Requests that come at the same time begin at different ones.
    free.shuffle(&mut rand::rng());
    for slot in free {
        let written = Append::expecting(slot, 0, Bytes::new()).header("Nats-TTL", MINUTE);
        match bus.append(written, deadline).await {
            Ok(_) => return Ok(true),
            Err(AppendError::Conflict { .. }) if Instant::now() < deadline => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}
