//! How many sockets there are, of which roles, of how many users: counted as they come and go. What becomes of the numbers is
//! [`crate::stats`].

use std::sync::atomic::Ordering;

use cluster::sid::NodeId;
use domain::Identity;
use rustc_hash::FxHashMap;
use sha2::{Digest, Sha256};

use super::commands::Actor;
use super::session::{Entry, Session, Socket};
use super::{Shard, State};
use crate::clock::unix_ms;
use crate::stats::{AppCount, Client};

/// As what a socket was counted.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Milliseconds since the Unix epoch.
    pub since_ms: u64,
    role: Option<Box<str>>,
    user: Option<u64>,
}

/// The counts of one thread, by application.
#[derive(Debug, Default)]
pub struct Census {
    apps: FxHashMap<u16, Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: u64,
    by_role: FxHashMap<Box<str>, u64>,
    users: FxHashMap<u64, u32>,
}

impl Counted {
    fn new(since_ms: u64, identity: Option<&Identity>) -> Self {
        Self {
            since_ms,
            role: identity.and_then(|identity| identity.role.clone()),
            user: identity.map(|identity| hash(identity.user.as_str())),
        }
    }
}

/// The same on every node: the users of several nodes are counted by these.
fn hash(user: &str) -> u64 {
    let digest: [u8; 32] = Sha256::digest(user.as_bytes()).into();
    u64::from_be_bytes(digest[..8].try_into().expect("the digest has 32 bytes"))
}

impl Census {
    fn add(&mut self, app: u16, counted: &Counted) {
        let counts = self.apps.entry(app).or_default();
        counts.total += 1;
        if let Some(role) = &counted.role {
            *counts.by_role.entry(role.clone()).or_default() += 1;
        }
        if let Some(user) = counted.user {
            *counts.users.entry(user).or_default() += 1;
        }
    }

    fn remove(&mut self, app: u16, counted: &Counted) {
        let Some(counts) = self.apps.get_mut(&app) else { return };
        counts.total = counts.total.saturating_sub(1);
        if let Some(role) = &counted.role
            && let Some(count) = counts.by_role.get_mut(role)
        {
            *count -= 1;
            if *count == 0 {
                counts.by_role.remove(role);
            }
        }
        if let Some(user) = counted.user
            && let Some(count) = counts.users.get_mut(&user)
        {
            *count -= 1;
            if *count == 0 {
                counts.users.remove(&user);
            }
        }
    }

    fn of(&self, app: u16) -> AppCount {
        let Some(counts) = self.apps.get(&app) else { return AppCount::default() };
        AppCount {
            total: counts.total,
            by_role: counts.by_role.iter().map(|(role, count)| (role.to_string(), *count)).collect(),
            users: counts.users.keys().copied().collect(),
        }
    }
}

impl State {
    /// Counts an accepted socket, or counts it anew when it speaks for somebody else. `since_ms`: when it was accepted, if that
    /// was at another node.
    pub(super) fn count_socket(&mut self, shard: &Shard, socket: &mut Socket, since_ms: Option<u64>) {
        self.uncount_socket(shard, socket);
        let before = socket.counted.take().map(|counted| counted.since_ms);
        let counted = Counted::new(since_ms.or(before).unwrap_or_else(unix_ms), socket.identity.as_deref());
        self.census.add(socket.app, &counted);
        socket.counted = Some(counted);
        shard.shared.census.fetch_add(1, Ordering::Relaxed);
    }

    /// A counted socket speaks for somebody else.
    pub(super) fn count_again(&mut self, shard: &Shard, actor: &Actor) {
        self.with_session(shard, actor.session, |state, session| {
            let socket = session.socket_by_serial(actor.serial).filter(|socket| socket.counted.is_some());
            if let Some(socket) = socket {
                state.count_socket(shard, socket, None);
            }
        });
    }

    /// The socket is gone, or goes on elsewhere.
    pub(super) fn uncount_socket(&mut self, shard: &Shard, socket: &Socket) {
        if let Some(counted) = &socket.counted {
            self.census.remove(socket.app, counted);
            shard.shared.census.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counts of all applications, in their order.
    pub(super) fn counts(&self, apps: usize) -> Vec<AppCount> {
        (0..apps).map(|app| self.census.of(u16::try_from(app).unwrap_or(u16::MAX))).collect()
    }

    /// Sockets of an application, up to `limit`.
    pub(super) fn clients(&mut self, app: u16, node: NodeId, limit: usize) -> Vec<Client> {
        let sessions = self.sessions.entries_mut().filter_map(|entry| match entry {
            Entry::Live(session) => Some(session),
            _ => None,
        });
        sessions.flat_map(|session| clients_of(session, app, node)).take(limit).collect()
    }
}

fn clients_of(session: &Session, app: u16, node: NodeId) -> impl Iterator<Item = Client> {
    let transport = if session.links.is_empty() { "polling" } else { "websocket" };
    session.sockets.iter().filter(move |socket| socket.app == app).filter_map(move |socket| {
        let counted = socket.counted.as_ref()?;
        let identity = socket.identity.as_deref();
        Some(Client {
            socket: socket.id.to_string(),
            user: identity.map(Identity::wire_id),
            role: identity.and_then(|identity| identity.role.as_deref().map(str::to_owned)),
            connected_ms: counted.since_ms,
            node: node.to_string(),
            transport: transport.to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(user: u64, role: &str) -> Counted {
        Counted { since_ms: 1, role: Some(role.into()), user: Some(user) }
    }

    #[test]
    fn a_user_with_two_sockets_is_one_user_until_both_are_gone() {
        let mut census = Census::default();
        let (first, second) = (counted(1, "admin"), counted(1, "admin"));
        census.add(0, &first);
        census.add(0, &second);
        census.add(1, &counted(1, "x"));
        let count = census.of(0);
        assert_eq!((count.total, count.users.len(), count.by_role["admin"]), (2, 1, 2));
        census.remove(0, &first);
        assert_eq!((census.of(0).total, census.of(0).users.len()), (1, 1));
        census.remove(0, &second);
        let count = census.of(0);
        assert_eq!((count.total, count.users.len(), count.by_role.len()), (0, 0, 0));
    }
}
