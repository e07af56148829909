//! One member as a process: how it is started, signalled, and asked whether it serves.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::ClusterError;
use super::directory::Directory;

/// An answer that takes longer is asked for again.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause between looks at a starting member.
const PROBE_PAUSE: Duration = Duration::from_millis(100);

/// What a member is for; members stop in the reverse order of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Nats,
    Gateway,
    Coordinator,
    Balancer,
}

/// How a member says that it serves.
#[derive(Clone, Copy, Debug)]
pub enum Probe {
    /// 200 to a GET of the path.
    Http { addr: SocketAddr, path: &'static str },
    /// It takes connections.
    Tcp(SocketAddr),
}

/// What is run as one member; the same after a crash.
#[derive(Clone, Debug)]
pub struct Program {
    pub name: String,
    pub kind: Kind,
    pub binary: PathBuf,
    pub args: Vec<String>,
    /// Secrets: other users of the machine can read arguments.
    pub env: Vec<(&'static str, String)>,
    pub probe: Probe,
    /// What people are shown.
    pub address: String,
    /// It runs until its standard input closes, which the lock file is no use for.
    pub reads_stdin: bool,
}

impl Program {
    /// Starts it in a process group of its own: Ctrl-C reaches the supervisor only, which stops the members in order.
    ///
    /// # Errors
    /// A binary that cannot be run, or a log that cannot be written.
    pub fn spawn(&self, directory: &Directory) -> Result<Child, ClusterError> {
        let failed = |source| ClusterError::Spawn { binary: self.binary.clone(), source };
        let log = File::options().create(true).append(true).open(directory.log(&self.name));
        let log = log.map_err(failed)?;
        let stdin = if self.reads_stdin { Stdio::piped() } else { directory.lock().map_err(failed)?.into() };
        let mut command = Command::new(&self.binary);
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(stdin).stdout(log.try_clone().map_err(failed)?).stderr(log);
        command.process_group(0).kill_on_drop(true).spawn().map_err(failed)
    }
}

impl Probe {
    /// Returns once the member serves.
    pub async fn answered(self) {
        while !matches!(tokio::time::timeout(PROBE_TIMEOUT, self.answers()).await, Ok(Ok(true))) {
            tokio::time::sleep(PROBE_PAUSE).await;
        }
    }

    async fn answers(self) -> std::io::Result<bool> {
        match self {
            Self::Tcp(addr) => TcpStream::connect(addr).await.map(|_| true),
            Self::Http { addr, path } => {
                let mut stream = TcpStream::connect(addr).await?;
                stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
                let mut answer = [0; 12];
                stream.read_exact(&mut answer).await?;
                Ok(answer.ends_with(b" 200"))
            }
        }
    }
}

/// Sends a signal by the shell's own `kill`: std has no signals but SIGKILL, and this crate no unsafe code.
pub async fn signal(name: &str, pid: u32) {
    let mut command = Command::new("sh");
    command.args(["-c", r#"kill -s "$1" "$2""#, "sh", name, &pid.to_string()]);
    // Failing means that the process is gone, which its owner hears of anyway.
    let _ = command.stdin(Stdio::null()).stderr(Stdio::null()).status().await;
}
