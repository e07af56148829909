//! A private nats-server: the child process of `trunkline dev` and of tests.
//!
//! Owns finding a new enough binary, the lock on the data directory, readiness, restarts on the same client port, and
//! the stop. Refuses to run two servers on one data directory. Start at [`NatsChild::start`]; three of them in a cluster are
//! [`NatsCluster`].

mod cluster;
mod data_dir;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use self::cluster::NatsCluster;
use self::data_dir::DataDir;
use crate::version::{self, Version};

/// How long a start may take: reading a big store is slow, an empty one takes 0.3 s.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// A server that does not stop on SIGTERM within this time is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// First pause between looks at a starting server, and the longest one.
const POLL_FIRST: Duration = Duration::from_millis(5);
const POLL_LONGEST: Duration = Duration::from_millis(100);
/// Pause before a restart, so that a server that dies at once does not spin.
const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of the server's log that go into an error.
const LOG_TAIL_BYTES: usize = 600;

/// What to run.
#[derive(Debug, Clone, Default)]
pub struct ChildOptions {
    /// The nats-server to run; `None`: the one on PATH if it is new enough, else `.tools/bin/nats-server` of the working
    /// directory or a directory above it.
    pub binary: Option<PathBuf>,
    /// Store, log, configuration and lock; created if missing.
    pub data_dir: PathBuf,
    /// Client port; `None`: a free one. It stays the same over restarts.
    pub port: Option<u16>,
    /// Largest message in bytes; `None`: the server's 1 MiB.
    pub max_payload: Option<usize>,
    /// Text appended to the server's configuration file: accounts, TLS, a cluster.
    pub extra_config: String,
}

impl ChildOptions {
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self { data_dir: data_dir.into(), ..Self::default() }
    }
}

/// Why the private server does not run. The texts are for users.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    #[error(
        "no nats-server was found on PATH or in .tools/bin: run `make tools`, or name one that is 2.12 or newer"
    )]
    NotFound,
    #[error(
        "{} is nats-server {found}, but 2.12 or newer is needed: atomic batches, message schedules and message TTL are used",
        path.display()
    )]
    TooOld { path: PathBuf, found: String },
    #[error("{} cannot be run: {reason}", path.display())]
    Binary { path: PathBuf, reason: String },
    #[error("the data directory {} is in use by process {owner}: stop it, or choose another directory", dir.display())]
    Locked { dir: PathBuf, owner: String },
    #[error("the data directory {} cannot be used: {reason}", dir.display())]
    DataDir { dir: PathBuf, reason: String },
    #[error("nats-server did not become ready within {seconds} s; its log ends with: {log}")]
    NotReady { seconds: u64, log: String },
    #[error("nats-server stopped while it was starting ({status}); its log ends with: {log}")]
    Exited { status: String, log: String },
}

/// A running, supervised nats-server on loopback. Dropping it kills the server; [`NatsChild::stop`] stops it properly.
#[derive(Debug)]
pub struct NatsChild {
    port: u16,
    monitor_port: u16,
    pid: Arc<AtomicU32>,
    stop: Option<oneshot::Sender<()>>,
    supervisor: JoinHandle<()>,
}

/// Everything a restart needs.
#[derive(Debug)]
struct Launcher {
    binary: PathBuf,
    dir: DataDir,
    port: Option<u16>,
    monitor_port: Option<u16>,
}

/// The ports that a started server took.
#[derive(Debug, Clone, Copy)]
struct Ports {
    client: u16,
    monitor: u16,
}

impl NatsChild {
    /// Starts a server and waits until it answers healthy. Call it within a tokio runtime: it keeps a task there that
    /// restarts the server if it dies.
    pub async fn start(options: ChildOptions) -> Result<Self, ChildError> {
        let child = Self::launch(options).await?;
        child.wait_healthy(Instant::now() + START_TIMEOUT).await?;
        Ok(child)
    }

    /// Starts without waiting for health: a member of a cluster is healthy only when the others are there.
    async fn launch(options: ChildOptions) -> Result<Self, ChildError> {
        let binary = find_binary(options.binary.as_deref()).await?;
        let dir = DataDir::open(&options.data_dir, &binary).await?;
        dir.write_config(&options)?;
        let mut launcher = Launcher { binary, dir, port: options.port, monitor_port: None };
        let mut process = launcher.spawn()?;
        let ports = launcher.wait_ports(&mut process).await?;
        launcher.port = Some(ports.client);
        launcher.monitor_port = Some(ports.monitor);
        let pid = Arc::new(AtomicU32::new(process.id().unwrap_or(0)));
        let (stop, stopped) = oneshot::channel();
        let supervisor = tokio::spawn(supervise(launcher, process, Arc::clone(&pid), stopped));
        Ok(Self { port: ports.client, monitor_port: ports.monitor, pid, stop: Some(stop), supervisor })
    }

    /// `nats://127.0.0.1:<port>`, the same over restarts.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Process id of the server that runs now.
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Waits until `/healthz` says 200.
    pub async fn wait_healthy(&self, deadline: Instant) -> Result<(), ChildError> {
        let mut pause = POLL_FIRST;
        while !is_healthy(self.monitor_port).await {
            if Instant::now() >= deadline {
                return Err(ChildError::NotReady {
                    seconds: START_TIMEOUT.as_secs(),
                    log: "(it runs, but is not healthy)".to_owned(),
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(POLL_LONGEST);
        }
        Ok(())
    }

    /// SIGTERM, then SIGKILL after 10 s; returns when the process is gone.
    pub async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
            let _ = (&mut self.supervisor).await;
        }
    }
}

impl Drop for NatsChild {
    fn drop(&mut self) {
        // The task owns the process, which is killed with it.
        self.supervisor.abort();
    }
}

/// Owns the process: waits for it, restarts it, stops it.
async fn supervise(
    launcher: Launcher,
    mut process: Child,
    pid: Arc<AtomicU32>,
    mut stop: oneshot::Receiver<()>,
) {
    loop {
        tokio::select! {
            biased;
            _ = &mut stop => return launcher.terminate(process).await,
            status = process.wait() => {
                tracing::warn!(status = ?status.ok(), "nats-server stopped by itself and is started again");
            }
        }
        process = loop {
            tokio::select! {
                biased;
                _ = &mut stop => return,
                () = tokio::time::sleep(RESTART_PAUSE) => {}
            }
            match launcher.spawn() {
                Ok(process) => break process,
                Err(error) => tracing::error!(%error, "nats-server could not be started again"),
            }
        };
        pid.store(process.id().unwrap_or(0), Ordering::Relaxed);
    }
}

impl Launcher {
    fn spawn(&self) -> Result<Child, ChildError> {
        let port = |port: Option<u16>| port.map_or_else(|| "-1".to_owned(), |port| port.to_string());
        let mut command = Command::new(&self.binary);
        command
            .arg("-c")
            .arg(self.dir.config_file())
            .args(["-a", "127.0.0.1", "-p", &port(self.port), "-m", &port(self.monitor_port)])
            .arg("--ports_file_dir")
            .arg(self.dir.path())
            .arg("-P")
            .arg(self.dir.pid_file())
            .arg("-l")
            .arg(self.dir.log_file())
            .stdin(self.dir.lock_as_stdin()?)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        command.spawn().map_err(|error| self.binary_error(&error))
    }

    /// The ports file is there some 20 ms after the start.
    async fn wait_ports(&self, process: &mut Child) -> Result<Ports, ChildError> {
        let deadline = Instant::now() + START_TIMEOUT;
        let pid = process.id().unwrap_or(0);
        let mut pause = POLL_FIRST;
        loop {
            if let Some(ports) = self.dir.read_ports(pid) {
                return Ok(ports);
            }
            if let Ok(Some(status)) = process.try_wait() {
                return Err(ChildError::Exited { status: status.to_string(), log: self.dir.log_tail() });
            }
            if Instant::now() >= deadline {
                return Err(ChildError::NotReady {
                    seconds: START_TIMEOUT.as_secs(),
                    log: self.dir.log_tail(),
                });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(POLL_LONGEST);
        }
    }

    async fn terminate(&self, mut process: Child) {
        if let Some(pid) = process.id() {
            send_term(&self.binary, pid).await;
        }
        if tokio::time::timeout(STOP_TIMEOUT, process.wait()).await.is_err() {
            tracing::warn!("nats-server did not stop on SIGTERM and is killed");
            let _ = process.kill().await;
        }
    }

    fn binary_error(&self, error: &io::Error) -> ChildError {
        ChildError::Binary { path: self.binary.clone(), reason: error.to_string() }
    }
}

/// SIGTERM through nats-server's own `--signal`: std has no signals, and a container may have no `kill`.
async fn send_term(binary: &Path, pid: u32) {
    let sent = Command::new(binary)
        .args(["--signal", &format!("term={pid}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status();
    if !matches!(tokio::time::timeout(STOP_TIMEOUT, sent).await, Ok(Ok(status)) if status.success()) {
        tracing::warn!(pid, "nats-server could not be asked to stop");
    }
}

/// The named binary, or the first new enough one on PATH and in `.tools/bin`.
async fn find_binary(named: Option<&Path>) -> Result<PathBuf, ChildError> {
    if let Some(path) = named {
        return check_binary(path).await.map(|()| path.to_owned());
    }
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let here = std::env::current_dir().unwrap_or_default();
    let candidates = std::env::split_paths(&on_path)
        .map(|dir| dir.join("nats-server"))
        .chain(here.ancestors().map(|dir| dir.join(".tools/bin/nats-server")));
    let mut problem = ChildError::NotFound;
    for path in candidates.filter(|path| path.is_file()) {
        match check_binary(&path).await {
            Ok(()) => return Ok(path),
            Err(error) => problem = error,
        }
    }
    Err(problem)
}

async fn check_binary(path: &Path) -> Result<(), ChildError> {
    let failed = |reason: String| ChildError::Binary { path: path.to_owned(), reason };
    let run = Command::new(path).arg("-v").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(STOP_TIMEOUT, run)
        .await
        .map_err(|_| failed("`-v` does not answer".to_owned()))?
        .map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let found = text.trim().rsplit([' ', 'v']).next().unwrap_or_default().to_owned();
    match Version::parse(&found) {
        Some(version) if version >= version::NEEDED => Ok(()),
        Some(_) => Err(ChildError::TooOld { path: path.to_owned(), found }),
        None => Err(failed(format!("`-v` answers {:?}", text.trim()))),
    }
}

/// One `GET /healthz`; any trouble is "not yet".
async fn is_healthy(monitor_port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", monitor_port)).await?;
        stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await?;
        Ok::<_, io::Error>(answer.ends_with(b" 200"))
    };
    matches!(tokio::time::timeout(Duration::from_secs(1), ask).await, Ok(Ok(true)))
}
