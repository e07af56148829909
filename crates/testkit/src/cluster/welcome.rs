//! What people are told when the cluster runs: who is who, where to connect, with which token, and how to do harm.

use std::fmt::Write;

use super::plan::{Frontend, token};
use super::served::{App, Served};
use super::supervisor::{State, Supervisor};
use super::{ClusterError, Options, order};

/// # Errors
/// A token that cannot be made.
pub async fn welcome(
    options: &Options,
    served: &Served,
    frontends: &[Frontend],
    supervisor: &Supervisor,
    key: &str,
) -> Result<String, ClusterError> {
    let mut text = format!("\nA cluster runs on this machine.\n\n{}", table(supervisor));
    text += "\nClients connect to the balancer, which sends every request to the next gateway:\n\n";
    for frontend in frontends {
        for name in &frontend.names {
            let app = served.app.iter().find(|app| app.name == *name);
            let path = app.map_or("/v1", |app| &app.path);
            writeln!(text, "  {name:<12} http://{}{path}", frontend.addr).expect("a String takes everything");
        }
    }
    if let Some(app) = shown(served) {
        let role = (app.dialect == "telehealth").then_some("patient");
        let token = token(options, key, &app.name, "7", role).await?;
        write!(text, "\nA token of `{}` for user 7, good for a day:\n\n  {token}\n", app.name)
            .expect("a String takes everything");
    }
    if served.api.keys.is_empty() {
        let file = supervisor.directory().path("api-key");
        writeln!(text, "\nThe key of the server API is in {}.", file.display())
            .expect("a String takes everything");
    }
    write!(text, "\nKill a process by its pid, from anywhere, or type here:\n\n{}\n", order::HELP)
        .expect("a String takes everything");
    Ok(text)
}

/// The application a token is shown for: the one with rooms to talk in, else the first that takes one.
fn shown(served: &Served) -> Option<&App> {
    let mut apps = served.app.iter().filter(|app| app.takes_minted_tokens());
    let first = apps.clone().next();
    apps.find(|app| app.dialect == "telehealth").or(first)
}

/// One line for each member.
pub fn table(supervisor: &Supervisor) -> String {
    let mut text = format!("  {:<14} {:<8} {:<34} log\n", "process", "pid", "address");
    for member in supervisor.members() {
        let (program, log) = (&member.program, supervisor.directory().log(&member.program.name));
        let pid = match member.state {
            State::Down => "down".to_owned(),
            State::Starting { pid } | State::Serving { pid } => pid.to_string(),
        };
        let name = &program.name;
        writeln!(text, "  {name:<14} {pid:<8} {:<34} {}", program.address, log.display())
            .expect("a String takes everything");
    }
    text
}
