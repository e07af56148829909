//! The private server against the real nats-server: lock, restart, refusals.

mod support;

use std::time::{Duration, Instant};

use bus::child::{ChildError, ChildOptions, NatsChild};
use support::{TempDir, kill9};

#[tokio::test]
async fn a_data_directory_has_one_server() {
    let dir = TempDir::new("lock");
    let child = NatsChild::start(ChildOptions::new(dir.path())).await.unwrap();
    let refused = NatsChild::start(ChildOptions::new(dir.path())).await.unwrap_err();
    assert!(matches!(refused, ChildError::Locked { .. }), "{refused}");
    child.stop().await;
    NatsChild::start(ChildOptions::new(dir.path())).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_killed_server_comes_back_on_its_port() {
    let dir = TempDir::new("restart");
    let child = NatsChild::start(ChildOptions::new(dir.path())).await.unwrap();
    let (url, pid) = (child.url(), child.pid());
    kill9(pid);
    let deadline = Instant::now() + Duration::from_secs(10);
    while child.pid() == pid {
        assert!(Instant::now() < deadline, "not restarted");
        tokio::task::yield_now().await;
    }
    child.wait_healthy(deadline).await.unwrap();
    assert_eq!(child.url(), url);
    child.stop().await;
}

#[tokio::test]
async fn binaries_that_cannot_serve_are_named() {
    let dir = TempDir::new("binary");
    let missing = ChildOptions { binary: Some(dir.path().join("none")), ..ChildOptions::new(dir.path()) };
    assert!(matches!(NatsChild::start(missing).await, Err(ChildError::Binary { .. })));
    let old = dir.path().join("nats-server");
    support::write_script(&old, "#!/bin/sh\necho 'nats-server: v2.9.10'\n");
    let options = ChildOptions { binary: Some(old), ..ChildOptions::new(dir.path()) };
    let error = NatsChild::start(options).await.unwrap_err();
    assert!(error.to_string().contains("2.12 or newer"), "{error}");
}

#[tokio::test]
async fn a_bad_configuration_shows_the_log() {
    let dir = TempDir::new("config");
    let options = ChildOptions { extra_config: "listen: [\n".to_owned(), ..ChildOptions::new(dir.path()) };
    assert!(matches!(NatsChild::start(options).await, Err(ChildError::Exited { .. })));
}

/// Names the data directory for [`keeps_a_server_until_killed`].
const ORPHAN_DIR: &str = "TRUNKLINE_TEST_ORPHAN_DIR";

/// Run by [`an_orphan_of_a_killed_process_is_replaced`] in a process of its own; nothing otherwise.
#[tokio::test]
async fn keeps_a_server_until_killed() {
    let Some(dir) = std::env::var_os(ORPHAN_DIR) else { return };
    let _child = NatsChild::start(ChildOptions::new(dir)).await.unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn an_orphan_of_a_killed_process_is_replaced() {
    let dir = TempDir::new("orphan");
    let mut starter = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "keeps_a_server_until_killed"])
        .env(ORPHAN_DIR, dir.path())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let ports_file = |entry: std::fs::DirEntry| entry.path().extension().is_some_and(|kind| kind == "ports");
    while !std::fs::read_dir(dir.path()).unwrap().any(|entry| ports_file(entry.unwrap())) {
        assert!(Instant::now() < deadline, "the other process starts no server");
        tokio::task::yield_now().await;
    }
    let refused = NatsChild::start(ChildOptions::new(dir.path())).await;
    assert!(matches!(refused, Err(ChildError::Locked { .. })));
    starter.start_kill().unwrap();
    starter.wait().await.unwrap();
    NatsChild::start(ChildOptions::new(dir.path())).await.unwrap().stop().await;
}
