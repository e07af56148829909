//! The directory of a cluster: its lock, keys, logs and stores.
//!
//! The lock file is the standard input of the members: it stays locked while one of them lives, and tells the members of a supervisor that
//! was killed from everybody else. The next start stops these.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::ClusterError;
use super::process::signal;

/// How long what a killed supervisor left behind may take to stop.
const LEFTOVER_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
/// Lines of a log that go into an error.
const TAIL_LINES: usize = 12;

#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    lock: File,
}

impl Directory {
    /// Makes the directory, for this user only, and takes its lock.
    ///
    /// # Errors
    /// A directory that cannot be written, or that another cluster runs in.
    pub async fn open(path: &Path) -> Result<Self, ClusterError> {
        let failed = |source: io::Error| ClusterError::Directory { path: path.to_owned(), source };
        let make = |path: &Path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        make(path).and_then(|()| make(&path.join("log"))).map_err(failed)?;
        let path = path.canonicalize().map_err(failed)?;
        let mut options = File::options();
        let options = options.create(true).truncate(false).read(true).write(true);
        let mut lock = options.open(path.join("lock")).map_err(failed)?;
        if !try_lock(&lock).map_err(failed)? {
            stop_leftovers(&path, &mut lock).await?;
        }
        lock.set_len(0).map_err(failed)?;
        lock.seek(SeekFrom::Start(0)).map_err(failed)?;
        write!(lock, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { path, lock })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub fn log(&self, member: &str) -> PathBuf {
        self.path.join("log").join(format!("{member}.log"))
    }

    /// The lock, for a member's standard input.
    pub fn lock(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, ClusterError> {
        let path = self.path(name);
        match std::fs::write(&path, text) {
            Ok(()) => Ok(path),
            Err(source) => Err(ClusterError::Directory { path, source }),
        }
    }

    /// 256 random bits in a file that only this user reads, made at the first call ever: tokens outlive the cluster.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn key_file(&self, name: &str) -> Result<PathBuf, ClusterError> {
        let path = self.path(name);
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let written = made.and_then(|mut file| {
            writeln!(file, "{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>())
        });
        match written {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(ClusterError::Directory { path, source: error })
            }
            _ => Ok(path),
        }
    }

    /// The end of a member's log.
    pub fn log_tail(&self, member: &str) -> String {
        let log = std::fs::read(self.log(member)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

fn try_lock(lock: &File) -> io::Result<bool> {
    match lock.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Stops the members of a supervisor that is gone and takes over the lock; while it lives, the directory is in use.
async fn stop_leftovers(path: &Path, lock: &mut File) -> Result<(), ClusterError> {
    let mut owner = String::new();
    let _ = lock.read_to_string(&mut owner);
    let in_use = || ClusterError::InUse { path: path.to_owned(), owner: owner.trim().to_owned() };
    let leftovers = leftovers(path);
    if Path::new("/proc").join(owner.trim()).exists() || leftovers.is_empty() {
        return Err(in_use());
    }
    println!("Stopping what a killed cluster left behind: {leftovers:?}");
    for pid in leftovers {
        signal("TERM", pid).await;
        // One that was paused would not hear it.
        signal("CONT", pid).await;
    }
    let deadline = Instant::now() + LEFTOVER_TIMEOUT;
    while !try_lock(lock).unwrap_or(false) {
        if Instant::now() >= deadline {
            return Err(in_use());
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Processes whose standard input is the lock. Without /proc there are none to be found.
fn leftovers(path: &Path) -> Vec<u32> {
    let is_ours = |pid: &u32| {
        std::fs::read_link(format!("/proc/{pid}/fd/0")).is_ok_and(|stdin| stdin == path.join("lock"))
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_ours).collect()
}
