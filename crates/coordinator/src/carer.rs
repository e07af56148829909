//! The carer: what follows from a committed change of a call is done by whoever committed it, for several commands at once. It knows what
//! was written, so it reads less than a follower would; what it does not come to, a follower does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::{Semaphore, mpsc};

use crate::clock::unix_ms;
use crate::desk::Desk;
use crate::plan::presence::Refold;
use crate::plan::{Care, Cares};
use crate::store::Unavailable;

/// How long it gathers: nobody waits for it, and clients' commands go first.
const GATHER: Duration = Duration::from_millis(20);
/// Commands that wait for it; what comes when so many do is left to followers.
const WAITING: usize = 1024;
/// Commands that are seen to together: their users' device records must fit into one read.
const TOGETHER: usize = 128;
/// Batches under way: one that waits for somebody holds up no other.
const AT_ONCE: usize = 4;
const DEADLINE: Duration = Duration::from_secs(4);

/// Where the desk leaves what is to be done later.
#[derive(Clone, Debug)]
pub struct Carer {
    waiting: mpsc::Sender<Care>,
}

/// What was left.
pub type Left = mpsc::Receiver<Care>;

impl Carer {
    pub fn new() -> (Self, Left) {
        let (waiting, left) = mpsc::channel(WAITING);
        (Self { waiting }, left)
    }

    pub fn leave(&self, care: Care) {
        // Refused: a follower sees to it.
        let _ = self.waiting.try_send(care);
    }
}

/// Sees to what is left until the runtime ends.
pub async fn run(desk: Arc<Desk>, mut left: Left) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(first) = left.recv().await {
        tokio::time::sleep(GATHER).await;
        let mut cares = vec![first];
        while cares.len() < TOGETHER
            && let Ok(care) = left.try_recv()
        {
            cares.push(care);
        }
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let desk = desk.clone();
        tokio::spawn(async move {
            if see_to(&desk, Cares::new(cares, unix_ms())).await.is_err() {
                tracing::debug!(app = desk.app.name, "what follows from commands is left to followers");
            }
            drop(place);
        });
    }
}

async fn see_to(desk: &Desk, mut cares: Cares) -> Result<(), Unavailable> {
    let deadline = Instant::now() + DEADLINE;
    let keys = cares.keys();
    if !keys.is_empty() {
        desk.store.load(&mut cares.known, keys).await?;
    }
    let now_ms = unix_ms();
    desk.peers.claim(cares.at_rest(&desk.app, now_ms));
    let folds = cares.folds().map(async |(user, claims)| {
        let refold = Refold { user: user.clone(), chosen: None, gone_ms: now_ms };
        if desk.fold(&refold, cares.known.of_user(user), deadline).await.is_ok() {
            desk.peers.claim(claims);
        }
    });
    join_all(folds).await;
    Ok(())
}
