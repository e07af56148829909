//! Applications that share listener, host and path are a *site*, told apart by namespace. A session is opened before its namespace is
//! known, and one session may hold sockets of several of them; so whatever a session is made with must be the same for all
//! ([`differences`]).

use std::collections::BTreeSet;

use super::{Mistake, name_of, share_door};
use crate::config::{AppConfig, Dialect, GatewayConfig, Limits};

/// The applications at the listener, host and path of this one, in their order.
pub fn site_of(config: &GatewayConfig, app: &AppConfig) -> Box<[u16]> {
    let all = config.app.iter().zip(0..);
    all.filter(|(other, _)| is_site(config, other, app)).map(|(_, ix)| ix).collect()
}

pub fn is_site(config: &GatewayConfig, other: &AppConfig, app: &AppConfig) -> bool {
    share_door(config, other, app) && other.base_path() == app.base_path()
}

/// What an application does not have in common with `has`, app number `first`, though they are of one site.
pub fn differences(config: &GatewayConfig, has: &AppConfig, app: &AppConfig, first: usize) -> Vec<Mistake> {
    let listeners = |app| config.listen_of(app).iter().collect::<BTreeSet<_>>();
    let hosts = |app: &AppConfig| app.hosts.iter().map(|host| name_of(host)).collect::<BTreeSet<_>>();
    let origins = |app: &AppConfig| app.cors_origins.iter().cloned().collect::<BTreeSet<_>>();
    let conformance = [has, app].iter().any(|app| app.dialect == Dialect::Conformance);
    let settings = [
        ("listen", listeners(has) == listeners(app)),
        ("hosts", hosts(has) == hosts(app)),
        ("dialect", !conformance),
        ("parser", has.parser == app.parser),
        ("cors_origins", origins(has) == origins(app)),
        ("compress_over_bytes", has.compress_over_bytes == app.compress_over_bytes),
    ];
    let limits = |app: &AppConfig| of_sessions(&config.limits.with(&app.limits));
    let limits = limits(has).into_iter().zip(limits(app)).map(|((key, has), (_, own))| (key, has == own));
    let unequal = settings.into_iter().chain(limits).filter(|(_, is_equal)| !is_equal);
    let mistake = |key| match key {
        "dialect" => {
            (key, format!("the conformance dialect cannot share listener, host and path with app[{first}]"))
        }
        _ => (
            key,
            format!(
                "must be the same as that of app[{first}]: they share listener, host and path, and a session is opened \
                 before its namespace is known"
            ),
        ),
    };
    unequal.map(|(key, _)| mistake(key)).collect()
}

/// The limits that sessions have before their namespaces are known.
fn of_sessions(limits: &Limits) -> [(&'static str, u64); 9] {
    [
        ("limits.max_payload_bytes", limits.max_payload_bytes as u64),
        ("limits.outbox_bytes", limits.outbox_bytes as u64),
        ("limits.max_sessions", limits.max_sessions as u64),
        ("limits.pending_commands", limits.pending_commands as u64),
        ("limits.attachments", limits.attachments as u64),
        ("limits.connect_timeout_ms", limits.connect_timeout_ms),
        ("limits.ping_interval_ms", limits.ping_interval_ms),
        ("limits.ping_timeout_ms", limits.ping_timeout_ms),
        ("limits.upgrade_timeout_ms", limits.upgrade_timeout_ms),
    ]
}
