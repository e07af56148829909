//! The data directory of a private nats-server: its lock, configuration, ports file and log.
//!
//! The lock is handed to the server as its standard input: it stays held as long as the server lives, even when the
//! process that started it was killed. Such an orphan is stopped by the next start.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{ChildError, ChildOptions, LOG_TAIL_BYTES, Ports};

/// How long an orphan may take to stop.
const ORPHAN_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct DataDir {
    path: PathBuf,
    lock: File,
}

impl DataDir {
    /// Creates and locks the directory. The lock file names the process that holds it.
    pub(super) async fn open(path: &Path, binary: &Path) -> Result<Self, ChildError> {
        let failed =
            |error: std::io::Error| ChildError::DataDir { dir: path.to_owned(), reason: error.to_string() };
        fs::create_dir_all(path).map_err(failed)?;
        let path = fs::canonicalize(path).map_err(failed)?;
        let mut lock = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(path.join("trunkline.lock"))
            .map_err(failed)?;
        if !try_lock(&lock).map_err(failed)? {
            stop_orphan(&path, &lock, binary).await?;
        }
        lock.set_len(0).map_err(failed)?;
        lock.seek(SeekFrom::Start(0)).map_err(failed)?;
        write!(lock, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { path, lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn config_file(&self) -> PathBuf {
        self.path.join("nats-server.conf")
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        pid_file(&self.path)
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.path.join("nats-server.log")
    }

    pub(super) fn lock_as_stdin(&self) -> Result<Stdio, ChildError> {
        self.lock.try_clone().map(Stdio::from).map_err(|error| self.failed(&error))
    }

    pub(super) fn write_config(&self, options: &ChildOptions) -> Result<(), ChildError> {
        // The server makes the directory `jetstream` in it.
        let mut text = format!("jetstream {{ store_dir: {:?} }}\n", self.path.display().to_string());
        if let Some(bytes) = options.max_payload {
            // nats-server refuses a max_payload above max_pending, which is 64 MiB.
            text.push_str(&format!("max_payload: {bytes}\n"));
        }
        text.push_str(&options.extra_config);
        fs::write(self.config_file(), text).map_err(|error| self.failed(&error))
    }

    /// Client and monitoring port from `<name>_<pid>.ports`; `None`: not written yet.
    pub(super) fn read_ports(&self, pid: u32) -> Option<Ports> {
        let suffix = format!("_{pid}.ports");
        let file = fs::read_dir(&self.path)
            .ok()?
            .filter_map(Result::ok)
            .find(|entry| entry.file_name().to_string_lossy().ends_with(&suffix))?;
        let ports: serde_json::Value = serde_json::from_slice(&fs::read(file.path()).ok()?).ok()?;
        let port = |kind: &str| ports[kind][0].as_str()?.rsplit(':').next()?.parse().ok();
        Some(Ports { client: port("nats")?, monitor: port("monitoring")? })
    }

    pub(super) fn log_tail(&self) -> String {
        let log = fs::read(self.log_file()).unwrap_or_default();
        let from = log.len().saturating_sub(LOG_TAIL_BYTES);
        String::from_utf8_lossy(&log[from..]).into_owned()
    }

    fn failed(&self, error: &std::io::Error) -> ChildError {
        ChildError::DataDir { dir: self.path.clone(), reason: error.to_string() }
    }
}

fn pid_file(dir: &Path) -> PathBuf {
    dir.join("nats-server.pid")
}

fn try_lock(lock: &File) -> std::io::Result<bool> {
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Stops a server whose starter is gone and takes over the lock; otherwise the directory is in use.
async fn stop_orphan(dir: &Path, mut lock: &File, binary: &Path) -> Result<(), ChildError> {
    let mut owner = String::new();
    let _ = lock.read_to_string(&mut owner);
    let in_use = || ChildError::Locked { dir: dir.to_owned(), owner: owner.trim().to_owned() };
    let server = orphan(dir, owner.trim()).ok_or_else(in_use)?;
    tracing::info!(pid = server, "stopping the nats-server that a killed process left behind");
    super::send_term(binary, server).await;
    let deadline = Instant::now() + ORPHAN_TIMEOUT;
    while !try_lock(lock).unwrap_or(false) {
        if Instant::now() >= deadline {
            return Err(in_use());
        }
        tokio::time::sleep(super::POLL_LONGEST).await;
    }
    Ok(())
}

/// Process id of this directory's server if the process that started it is gone. Needs /proc; without it, nothing is
/// an orphan.
fn orphan(dir: &Path, owner: &str) -> Option<u32> {
    let proc = Path::new("/proc");
    if !proc.join("self").exists() || owner.is_empty() || proc.join(owner).exists() {
        return None;
    }
    let server: u32 = fs::read_to_string(pid_file(dir)).ok()?.trim().parse().ok()?;
    let command = fs::read(proc.join(server.to_string()).join("cmdline")).ok()?;
    String::from_utf8_lossy(&command).contains(&*dir.to_string_lossy()).then_some(server)
}
