//! What a newcomer is told: addresses, a token, and a line to paste.

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::path::Path;

use gateway::config::{AppConfig, Dialect};

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
pub fn welcome(config: &Config, nodes: &[Node], nats: &str, key_file: &Path) -> Result<String, Failure> {
    let mut text = String::from(
        "\nTrunkline is running: two gateway nodes, a coordinator and a nats-server of their own.\n\n",
    );
    addresses(&mut text, config, nodes, nats).expect("a String takes everything");
    for app in config.app.iter().filter(|app| app.dialect == Dialect::Telehealth) {
        let Some(rules) = app.token.as_ref().filter(|rules| matches!(rules.hmac_secret(), Ok(Some(_))))
        else {
            continue;
        };
        let subject = Subject {
            user: "7".to_owned(),
            role: Some("patient".to_owned()),
            name: Some("Ann".to_owned()),
            ..Subject::default()
        };
        let token = mint(rules, &subject, Some(TOKEN_TTL_S), None)?;
        let addrs: Vec<SocketAddr> =
            nodes.iter().filter_map(|node| first_listener(node, &app.name)).collect();
        if let (Some(first), Some(last)) = (addrs.first(), addrs.last()) {
            text += &format!("\nA token of `{}` for user 7, good for a day:\n\n  {token}\n", app.name);
            text += "\nLog in over polling, each request to another node; the answer holds the event `connected`:\n\n  ";
            text += &line_to_try(app, *first, *last, &token);
        }
    }
    text += &format!(
        "\nTokens of other users: trunkline token mint --secret-file {} --user 8\n",
        key_file.display()
    );
    text += "Ctrl-C stops everything.\n";
    Ok(text)
}

fn addresses(text: &mut String, config: &Config, nodes: &[Node], nats: &str) -> fmt::Result {
    for (index, node) in nodes.iter().enumerate() {
        for (app, addr) in node.listeners() {
            let path =
                config.app.iter().find(|known| known.name == *app).map_or("", |known| known.path.as_str());
            writeln!(text, "  node {}  {app:<10} http://{addr}{path}", index + 1)?;
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
