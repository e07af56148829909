//! What the bus tests share: directories, kills, a bus on a private server.
// Each test file uses a part; clippy does not see that helpers outside `#[test]` are tests too.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bus::child::{ChildOptions, NatsChild};
use bus::{Bus, BusConfig, Feed, FeedEvent};

/// A directory under the system's temporary one, removed at the end.
pub struct TempDir(PathBuf);

impl TempDir {
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("trunkline-bus-{}-{number}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn kill9(pid: u32) {
    signal("-KILL", pid);
}

pub fn signal(name: &str, pid: u32) {
    assert!(std::process::Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

pub fn write_script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

pub async fn server(dir: &TempDir) -> NatsChild {
    NatsChild::start(ChildOptions::new(dir.path())).await.unwrap()
}

pub async fn connect(url: &str) -> Bus {
    Bus::connect(BusConfig::for_server(url), &prometheus::Registry::new()).await.unwrap()
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// The next events of a feed; panics if none come.
pub async fn batch(feed: &mut Feed) -> Vec<FeedEvent> {
    let mut out = Vec::new();
    tokio::time::timeout(Duration::from_secs(15), feed.next_batch(&mut out))
        .await
        .expect("the feed is silent");
    out
}

/// Reads the feed until `done` says so; returns everything read.
pub async fn read_until(feed: &mut Feed, mut done: impl FnMut(&FeedEvent) -> bool) -> Vec<FeedEvent> {
    let mut all = Vec::new();
    loop {
        let events = batch(feed).await;
        let end = events.iter().any(&mut done);
        all.extend(events);
        if end {
            return all;
        }
    }
}
