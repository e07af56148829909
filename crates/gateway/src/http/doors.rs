//! Which applications a request may be for, by the name of the host it names: routes for each name that an application answers to, and
//! others for all other names. An application that names the host goes before one that takes any.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axum::routing::{MethodRouter, any};
use http::HeaderValue;

use super::{Site, endpoints, plain, serve};

/// The routes of one listener.
#[derive(Clone, Debug)]
pub struct Doors {
    /// By lower-case name.
    named: Arc<HashMap<String, axum::Router>>,
    other: axum::Router,
}

impl Doors {
    /// The same routes whatever the host.
    pub fn any(router: axum::Router) -> Self {
        Self { named: Arc::default(), other: router }
    }

    pub fn build(sites: &[Arc<Site>]) -> Self {
        let names: BTreeSet<String> = sites.iter().flat_map(|site| hosts(site)).collect();
        let takes_any = || sites.iter().filter(|site| hosts(site).next().is_none()).cloned();
        let of_name = |name: String| {
            let own = sites.iter().filter(|site| hosts(site).any(|host| host == name)).cloned();
            let all: Vec<Arc<Site>> = own.chain(takes_any()).collect();
            (name, router(&all))
        };
        let named = names.into_iter().map(of_name).collect();
        Self { named: Arc::new(named), other: router(&takes_any().collect::<Vec<_>>()) }
    }

    /// The routes for a request with this `Host`.
    pub fn of(&self, host: Option<&HeaderValue>) -> &axum::Router {
        if self.named.is_empty() {
            return &self.other;
        }
        let name = host.and_then(|host| host.to_str().ok()).map(name_of);
        name.and_then(|name| self.named.get(&name)).unwrap_or(&self.other)
    }
}

fn hosts(site: &Site) -> impl Iterator<Item = String> {
    site.shared.app(site.app).config.hosts.iter().map(|host| host.to_ascii_lowercase())
}

/// Without the port: `a.example:8080`, `[::1]:80`.
fn name_of(host: &str) -> String {
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    without_port.to_ascii_lowercase()
}

/// Each path is the first application's that has it.
fn router(sites: &[Arc<Site>]) -> axum::Router {
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut router = axum::Router::new();
    let mut add = |path: &str, handler: MethodRouter| {
        if taken.insert(path.to_owned()) {
            router = std::mem::take(&mut router).route(path, handler);
        }
    };
    for site in sites {
        let config = &site.shared.app(site.app).config;
        let base = config.base_path();
        for path in [format!("{base}/"), base.to_owned()] {
            add(&path, any(serve).with_state(site.clone()));
        }
        for path in config.plain_base().into_iter().flat_map(|path| [format!("{path}/"), path.to_owned()]) {
            add(&path, any(plain::serve).with_state(site.clone()));
        }
    }
    for site in sites {
        for (path, handler) in endpoints::of(site) {
            add(path, handler);
        }
    }
    router
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn ports_and_case_do_not_count() {
        let cases = [
            ("A.example", "a.example"),
            ("a.example:8080", "a.example"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ];
        for (host, name) in cases {
            assert_eq!(name_of(host), name);
        }
    }
}
