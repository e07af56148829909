//! The built binary: tokens there and back, and the checking of configurations.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const CONFIG: &str = "[[app]]\nname = \"visits\"\n[app.token]\nsecret = \"a key of the first application\"\n\
    [[app]]\nname = \"chat\"\npath = \"/chat/\"\n[app.token]\nsecret = \"another\"\naudience = [\"chat\"]\n";

/// A directory of this test alone, gone with the value.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("trunkline-commands-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

fn trunkline(directory: &Directory, arguments: &[&str], stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
    command.args(arguments).current_dir(&directory.0).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn succeed(directory: &Directory, arguments: &[&str], stdin: &str) -> String {
    let output = trunkline(directory, arguments, stdin);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_minted_token_is_believed_by_its_application_only() {
    let directory = Directory::new("mint");
    let config = directory.write("c.toml", CONFIG);
    let mint =
        ["token", "mint", "--config", text(&config), "--app", "visits", "--user", "7", "--role", "patient"];
    let more = ["--name", "Ann", "--claim", "visits=[1,2]", "--claim", "city=Minsk", "--ttl", "2h"];
    let token = succeed(&directory, &[&mint[..], &more[..]].concat(), "");
    assert_eq!(token.trim().split('.').count(), 3, "only the token is printed: {token}");

    let report = succeed(&directory, &["token", "inspect", "--config", text(&config)], &token);
    for part in [
        r#""alg": "HS256""#,
        r#""sub": "7""#,
        r#""username": "Ann""#,
        r#""city": "Minsk""#,
        "expires in ",
        "application visits: verified, user 7 with the role patient",
        "application chat: not verified: the token's signature fits no configured key",
    ] {
        assert!(report.contains(part), "{part} is missing in\n{report}");
    }
    let by_argument = succeed(&directory, &["token", "inspect", "-c", text(&config), token.trim()], "");
    assert!(by_argument.contains("application visits: verified"));

    let chat =
        succeed(&directory, &["token", "mint", "-c", text(&config), "--app", "chat", "--user", "8"], "");
    let report = succeed(&directory, &["token", "inspect", "-c", text(&config)], &chat);
    assert!(report.contains("application chat: verified, user 8"), "the audience is set: {report}");
}

#[test]
fn a_key_may_come_from_a_file_without_any_configuration() {
    let directory = Directory::new("secret-file");
    let key = directory.write("key", "a key in a file\n");
    let token = succeed(
        &directory,
        &["token", "mint", "--secret-file", text(&key), "--user", "7", "--ttl", "never"],
        "",
    );
    let report = succeed(&directory, &["token", "inspect", "--secret-file", text(&key)], &token);
    assert!(report.contains("verified, user 7") && report.contains("does not expire"), "{report}");
    let report = succeed(&directory, &["token", "inspect"], &token);
    assert!(report.contains("not verified: no key is given"), "{report}");

    let other = directory.write("other", "another key");
    let refused = trunkline(&directory, &["token", "inspect", "--secret-file", text(&other)], &token);
    assert_eq!(refused.status.code(), Some(1));
    let garbage = trunkline(&directory, &["token", "inspect"], "no token");
    assert_eq!(garbage.status.code(), Some(1));
}

#[test]
fn an_expired_token_says_so() {
    let directory = Directory::new("expired");
    let key = directory.write("key", "k");
    let mint = ["token", "mint", "--secret-file", text(&key), "--user", "7", "--claim", "exp=1000"];
    let token = succeed(&directory, &mint, "");
    let report = trunkline(&directory, &["token", "inspect", "--secret-file", text(&key)], &token);
    let report = String::from_utf8(report.stdout).unwrap();
    assert!(report.contains("\nexpired ") && report.contains(" days ago"), "{report}");
    assert!(report.contains("not verified: the token has expired"), "{report}");
}

#[test]
fn minting_asks_for_what_is_missing() {
    let directory = Directory::new("mint-mistakes");
    let config = directory.write("c.toml", CONFIG);
    let cases: [(&[&str], &str); 4] = [
        (&["-c", text(&config)], "several applications are configured: give --app, one of visits, chat"),
        (&["-c", text(&config), "--app", "x"], "no application is named `x`"),
        (&["-c", text(&config), "--app", "visits", "--algorithm", "RS256"], "HS256, HS384 or HS512"),
        (&["-c", text(&config), "--app", "visits", "--ttl", "long"], "--ttl long"),
    ];
    for (arguments, message) in cases {
        let output = trunkline(&directory, &[&["token", "mint", "--user", "7"], arguments].concat(), "");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr.contains(message), "{stderr}");
    }
}

#[test]
fn check_config_prints_what_is_in_effect_and_every_mistake() {
    let directory = Directory::new("check");
    directory.write("trunkline.toml", CONFIG);
    let right = succeed(
        &directory,
        &["check-config", "--set", "limits.attachments=3", "--listen", "[::]:1,0.0.0.0:1"],
        "",
    );
    for part in ["attachments = 3", "secret = \"<redacted>\"", "\"0.0.0.0:1\"", "ping_interval_ms = 25000"] {
        assert!(right.contains(part), "{part} is missing in\n{right}");
    }
    assert!(!right.contains("first application"), "{right}");

    directory.write("trunkline.toml", &format!("{CONFIG}leway_s = 1\n[http]\nadmin = 5\n"));
    let wrong = trunkline(&directory, &["check-config", "--nats", "nowhere"], "");
    let stderr = String::from_utf8(wrong.stderr).unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    let expected = [
        "trunkline.toml:11:1: app[1].token.leway_s: unknown key `leway_s`: did you mean `leeway_s`?",
        "trunkline.toml:13:9: http.admin: invalid type: integer `5`, expected socket address",
        "--nats: nats.servers: `nowhere` is no address: write nats://host:port or tls://host:port",
        "3 mistakes in the configuration",
    ];
    assert_eq!(stderr.lines().collect::<Vec<_>>(), expected);
}
