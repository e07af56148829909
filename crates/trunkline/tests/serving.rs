//! The built binary as a server: what it prints, its operators' port, and how it ends on a signal.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use bus::child::{ChildOptions, NatsChild};

/// A running `trunkline`, killed if the test fails before it ends.
struct Server {
    process: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Server {
    fn start(directory: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
        command
            .args(arguments)
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .current_dir(directory);
        for variable in ["JWT_SECRET", "CORS_ORIGINS", "PORT", "HOST", "TRUNKLINE_CONFIG"] {
            command.env_remove(variable);
        }
        command.env("PATH", path_with_tools());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// The lines up to the first that starts with `last`.
    fn lines_until(&mut self, last: &str) -> Vec<String> {
        let mut found = Vec::new();
        for line in self.lines.by_ref().map(Result::unwrap) {
            found.push(line);
            if found.last().is_some_and(|line| line.starts_with(last)) {
                return found;
            }
        }
        panic!("it ended without printing {last:?}: {found:#?}\n{}", self.stderr());
    }

    fn terminate(&self) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    fn wait(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }

    fn stderr(&mut self) -> String {
        let mut text = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already, which is no failure.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn directory(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("trunkline-serving-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// `make` puts nats-server into the repository, and the server runs in a directory far from it.
fn path_with_tools() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{}/../../.tools/bin:{path}", env!("CARGO_MANIFEST_DIR"))
}

fn get(url: &str) -> String {
    let (addr, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(addr).unwrap();
    write!(stream, "GET /{path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn dev_serves_two_nodes_and_stops_on_a_signal() {
    let directory = directory("dev");
    // The built-in configuration has the applications' own ports, which may be taken.
    let config = "api.listen = [\"127.0.0.1:0\"]\ncoordinator.admin = \"127.0.0.1:0\"\n[[app]]\nname = \"visits\"\n[app.token]\n";
    std::fs::write(directory.join("trunkline.toml"), config).unwrap();
    let mut server = Server::start(&directory, &["dev"]);
    let text = server.lines_until("Ctrl-C stops everything.");
    let urls: Vec<&str> = text
        .iter()
        .filter(|line| line.contains(" visits "))
        .filter_map(|line| line.split_whitespace().last())
        .collect();
    assert_eq!(urls.len(), 2, "{text:#?}");
    assert_ne!(urls[0], urls[1]);
    let operators: Vec<&str> = text
        .iter()
        .filter(|line| line.contains(" operators "))
        .filter_map(|line| line.split_whitespace().nth(3))
        .collect();
    for metrics in operators {
        assert!(get(metrics).contains("process_resident_memory_bytes"));
        assert!(get(&metrics.replace("metrics", "readyz")).starts_with("HTTP/1.1 200"));
    }
    let token = text
        .iter()
        .map(|line| line.trim())
        .find(|line| line.starts_with("eyJ") && !line.contains(' '))
        .unwrap();
    let mut inspect = Command::new(env!("CARGO_BIN_EXE_trunkline"));
    inspect.args(["token", "inspect", "--secret-file", ".trunkline/jwt-key", token]).current_dir(&directory);
    assert!(inspect.output().unwrap().status.success(), "the printed token is signed with the printed key");

    server.terminate();
    assert!(server.wait().success());
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn a_gateway_prints_its_listeners_and_drains_on_a_signal() {
    let directory = directory("gateway");
    let nats = NatsChild::start(ChildOptions::new(directory.join("nats"))).await.unwrap();
    std::fs::write(directory.join("trunkline.toml"), "[[app]]\nname = \"visits\"\ntoken.secret = \"s\"\n")
        .unwrap();
    let mut server = Server::start(&directory, &["gateway", "--nats", &nats.url()]);
    let lines = server.lines_until("ready");
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("listening visits 127.0.0.1:"), "{lines:?}");
    server.terminate();
    assert!(server.wait().success());
    nats.stop().await;
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn mistakes_stop_a_gateway_before_it_starts() {
    let directory = directory("mistakes");
    let mut server = Server::start(&directory, &["gateway", "--set", "limits.atachments=1"]);
    assert_eq!(server.wait().code(), Some(2));
    let stderr = server.stderr();
    assert!(stderr.contains("did you mean `attachments`?") && stderr.contains("2 mistakes"), "{stderr}");
    std::fs::remove_dir_all(directory).unwrap();
}
