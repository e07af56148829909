//! What replicas tell each other: which messages followers need not work off, because somebody has seen to what they ask for. Told once
//! and without confirmation; whoever did not hear of it looks, and finds nothing to do.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bus::{Bus, BusError, Heard};
use cluster::coordination::{decode, encode, subject};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::plan::{Claim, Claims};

/// Claims gather for this long: far below what followers wait for them.
const GATHER: Duration = Duration::from_millis(5);
/// Claims that are remembered for each bucket: half a minute of the busiest system.
const REMEMBERED: usize = 65_536;

/// What this replica knows to be finished, of one application.
#[derive(Debug)]
pub struct Peers {
    bus: Bus,
    subject: String,
    /// This replica among those of the application.
    me: u64,
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug)]
struct State {
    calls: Claims,
    /// Presence records whose announcement is stored.
    told: Claims,
    unsaid: Said,
}

/// One message. Sequences of the two buckets.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Said {
    by: u64,
    calls: Vec<(u64, u64)>,
    told: Vec<u64>,
}

impl Peers {
    /// Hears the others and tells them until the runtime ends.
    pub fn start(bus: &Bus, app: &str) -> Result<Arc<Self>, BusError> {
        let subject = format!("{}.finished", subject(app));
        let heard = bus.hear(&subject)?;
        let peers = Arc::new(Self {
            bus: bus.clone(),
            subject,
            me: rand::random(),
            state: Mutex::new(State {
                calls: Claims::new(REMEMBERED),
                told: Claims::new(REMEMBERED),
                unsaid: Said::default(),
            }),
            news: Notify::new(),
        });
        tokio::spawn(peers.clone().hear(heard));
        tokio::spawn(peers.clone().tell());
        Ok(peers)
    }

    /// For a message of the calls' bucket there is nothing to do.
    pub fn claim(&self, claims: impl IntoIterator<Item = Claim>) {
        let mut state = self.state();
        for claim in claims {
            state.calls.add(claim);
            state.unsaid.calls.push((claim.seq, claim.after));
        }
        self.news.notify_one();
    }

    /// What the presence record with this sequence announces is stored.
    pub fn told(&self, seq: u64) {
        let mut state = self.state();
        state.told.add(Claim { seq, after: 0 });
        state.unsaid.told.push(seq);
        self.news.notify_one();
    }

    pub fn is_finished(&self, seq: u64) -> bool {
        self.state().calls.is_finished(seq)
    }

    pub fn is_told(&self, seq: u64) -> bool {
        self.state().told.is_finished(seq)
    }

    /// The buckets may have been made anew, and their sequences begin again.
    pub fn forget(&self) {
        let mut state = self.state();
        state.calls.forget_all();
        state.told.forget_all();
    }

    async fn tell(self: Arc<Self>) {
        loop {
            self.news.notified().await;
            tokio::time::sleep(GATHER).await;
            let said = std::mem::take(&mut self.state().unsaid);
            let said = Said { by: self.me, ..said };
            if let Err(error) = self.bus.publish(&self.subject, encode(&said)) {
                tracing::debug!(%error, "other replicas do not hear what is finished");
            }
        }
    }

    async fn hear(self: Arc<Self>, mut heard: Heard) {
        loop {
            let payload = heard.next().await;
            match decode::<Said>(&payload) {
                Ok(said) if said.by != self.me => {
                    let mut state = self.state();
                    said.calls.into_iter().for_each(|(seq, after)| state.calls.add(Claim { seq, after }));
                    said.told.into_iter().for_each(|seq| state.told.add(Claim { seq, after: 0 }));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "what another replica has finished could not be read"),
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
