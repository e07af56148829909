//! What a newcomer is told: addresses, a token, and a line to paste.

use std::fmt::{self, Write};
use std::net::SocketAddr;

use gateway::config::{AppConfig, Auth, Dialect};

use super::data_dir::DataDir;
use crate::config::Config;
use crate::failure::Failure;
use crate::node::Node;
use crate::token::mint::{Subject, mint};

/// How long the printed token is good for.
const TOKEN_TTL_S: u64 = 24 * 3600;

/// The text for standard output.
///
/// # Errors
/// A token that cannot be signed.
pub fn welcome(config: &Config, nodes: &[Node], nats: &str, data_dir: &DataDir) -> Result<String, Failure> {
    let mut text = String::from(
        "\nTrunkline is running: two gateway nodes, a coordinator and a nats-server of their own.\n\n",
    );
    addresses(&mut text, config, nodes, nats).expect("a String takes everything");
    for app in &config.app {
        if app.auth == Auth::None {
            text += &format!("\n`{}` asks for no token: whoever connects is believed.\n", app.name);
            continue;
        }
        let Some(rules) = app.token.as_ref().filter(|rules| matches!(rules.hmac_secret(), Ok(Some(_))))
        else {
            continue;
        };
        let subject = newcomer(app.dialect);
        let role = subject.role.as_deref().map(|role| format!(", {role}")).unwrap_or_default();
        let token = mint(rules, &subject, Some(TOKEN_TTL_S), None)?;
        text += &format!("\nA token of `{}` for user 7{role}, good for a day:\n\n  {token}\n", app.name);
        let addrs: Vec<SocketAddr> =
            nodes.iter().filter_map(|node| first_listener(node, &app.name)).collect();
        if let (Dialect::Telehealth, Some(first), Some(last)) = (app.dialect, addrs.first(), addrs.last()) {
            text += &format!("\nTry it in a browser: http://{first}/api/docs/try\n");
            text += "\nLog in over polling, each request to another node; the answer holds the event `connected`:\n\n  ";
            text += &line_to_try(app, *first, *last, &token);
        }
    }
    if let Some(key) = config.api.keys.iter().find_map(|key| key.secret_file.as_ref()) {
        text += &format!("\nThe key of the server API is in {}.\n", key.display());
    }
    text += &format!(
        "\nTokens of other users: trunkline token mint --secret-file {} --user 8\n",
        data_dir.key_file().display()
    );
    text += "Ctrl-C stops everything.\n";
    Ok(text)
}

/// Whom a token is printed for: one who may do the most that the application's clients do.
fn newcomer(dialect: Dialect) -> Subject {
    let role = match dialect {
        Dialect::Telehealth | Dialect::Portal => Some("patient"),
        Dialect::Clinic => Some("Administrador"),
        Dialect::Diet => Some("dietitian"),
        Dialect::Messenger | Dialect::Conformance => None,
    };
    Subject {
        user: "7".to_owned(),
        role: role.map(str::to_owned),
        name: Some("Ann".to_owned()),
        ..Subject::default()
    }
}

fn addresses(text: &mut String, config: &Config, nodes: &[Node], nats: &str) -> fmt::Result {
    for (index, node) in nodes.iter().enumerate() {
        for (app, addr) in node.listeners() {
            let path =
                config.app.iter().find(|known| known.name == *app).map_or("", |known| known.path.as_str());
            writeln!(text, "  node {}  {app:<10} http://{addr}{path}", index + 1)?;
        }
        for addr in node.api_addrs() {
            writeln!(text, "  node {}  {:<10} http://{addr}/v1/apps/…", index + 1, "back ends")?;
        }
        if let Some(addr) = node.admin_addr() {
            writeln!(text, "  node {}  {:<10} http://{addr}/metrics and /readyz", index + 1, "operators")?;
        }
    }
    writeln!(text, "  {:<18} {nats}", "nats")
}

fn first_listener(node: &Node, app: &str) -> Option<SocketAddr> {
    node.listeners().iter().find(|(name, _)| name == app).map(|(_, addr)| *addr)
}

/// A handshake with one node, the log-in with the other, the answer from the first: any node serves any request. Needs Node.js alone.
fn line_to_try(app: &AppConfig, first: SocketAddr, last: SocketAddr, token: &str) -> String {
    let url = |addr: SocketAddr| format!("http://{addr}{}/?EIO=4&transport=polling", app.base_path());
    let connect = if app.namespace == "/" { "40".to_owned() } else { format!("40{},", app.namespace) };
    format!(
        "node -e 'const [a,b,t]=process.argv.slice(1),get=async u=>(await fetch(u)).text();(async()=>{{\
         const s=\"&sid=\"+JSON.parse((await get(a)).slice(1)).sid;\
         await fetch(b+s,{{method:\"POST\",body:\"{connect}\"+JSON.stringify({{token:t}})}});\
         console.log(await get(a+s))}})()' '{}' '{}' {token}\n",
        url(first),
        url(last)
    )
}
