//! What a configuration serves, as far as a balancer needs to know: read from what `trunkline check-config` prints, so that
//! overrides and defaults count as they do for the processes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;
use tokio::process::Command;

use super::ClusterError;

/// The configuration in effect.
#[derive(Debug, Deserialize)]
pub struct Served {
    pub http: Listeners,
    pub api: Api,
    pub node: Node,
    pub app: Vec<App>,
}

#[derive(Debug, Deserialize)]
pub struct Listeners {
    pub listen: Vec<SocketAddr>,
}

#[derive(Debug, Deserialize)]
pub struct Api {
    pub listen: Vec<SocketAddr>,
    pub keys: Vec<toml::Table>,
}

#[derive(Debug, Deserialize)]
pub struct Node {
    pub shards: usize,
    pub drain_s: u64,
}

#[derive(Debug, Deserialize)]
pub struct App {
    pub name: String,
    pub dialect: String,
    pub path: String,
    /// Empty: those of `http`.
    pub listen: Vec<SocketAddr>,
    pub auth: String,
    pub token: Option<toml::Table>,
}

impl App {
    /// Whether tokens can be made here: with an HMAC key that the configuration has.
    pub fn takes_minted_tokens(&self) -> bool {
        self.auth == "jwt" && self.token.as_ref().is_some_and(|token| token.contains_key("secret"))
    }
}

impl Served {
    /// # Errors
    /// The mistakes of the configuration, as `check-config` says them.
    pub async fn load(trunkline: &Path, config: &Path, key: &str) -> Result<Self, ClusterError> {
        let text =
            run(trunkline, key, &["check-config".as_ref(), "--config".as_ref(), config.as_os_str()]).await?;
        toml::from_str(&text).map_err(|error| ClusterError::Configuration(error.to_string()))
    }

    /// Every address that clients connect to, once, with the names of those who answer there.
    pub fn client_addrs(&self) -> Vec<(SocketAddr, Vec<&str>)> {
        let mut addrs: Vec<(SocketAddr, Vec<&str>)> = Vec::new();
        for app in &self.app {
            for addr in if app.listen.is_empty() { &self.http.listen } else { &app.listen } {
                match addrs.iter_mut().find(|(known, _)| known == addr) {
                    Some((_, names)) => names.push(&app.name),
                    None => addrs.push((*addr, vec![&app.name])),
                }
            }
        }
        addrs
    }

    /// Calls and presence have coordinators; the public suites have neither.
    pub fn has_coordinators(&self) -> bool {
        self.app.iter().any(|app| app.dialect != "conformance")
    }
}

/// Runs `trunkline` to its end and gives what it printed.
///
/// # Errors
/// What it said on standard error if it failed.
pub async fn run(trunkline: &Path, key: &str, args: &[&std::ffi::OsStr]) -> Result<String, ClusterError> {
    let mut command = Command::new(trunkline);
    command.args(args).env("JWT_SECRET", key).stdin(Stdio::null()).kill_on_drop(true);
    let failed = |source| ClusterError::Spawn { binary: PathBuf::from(trunkline), source };
    let output = command.output().await.map_err(failed)?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(ClusterError::Configuration(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applications_share_addresses() {
        let app = |name: &str, listen: &str| {
            format!(
                "[[app]]\nname = \"{name}\"\ndialect = \"conformance\"\npath = \"/\"\nauth = \"none\"\nlisten = [{listen}]\n"
            )
        };
        let text = format!(
            "http.listen = [\"127.0.0.1:1\"]\napi = {{ listen = [], keys = [] }}\nnode = {{ shards = 0, drain_s = 30 }}\n{}{}{}",
            app("a", ""),
            app("b", "\"127.0.0.1:2\""),
            app("c", "")
        );
        let served: Served = toml::from_str(&text).unwrap();
        let addr = |port| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(served.client_addrs(), [(addr(1), vec!["a", "c"]), (addr(2), vec!["b"])]);
        assert!(!served.has_coordinators());
        assert!(!served.app[0].takes_minted_tokens());
    }
}
