//! Which applications a request may be for, by the name of the host it names: routes for each name that an application answers to, and
//! others for all other names. An application that names the host goes before one that takes any.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use axum::response::Response;
use axum::routing::{MethodRouter, any};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::routes::name_of;
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
    site.shared.app(site.app).config.hosts.iter().map(|host| name_of(host))
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
    router.fallback(nowhere)
}

/// The same for a host and for a path that nobody has: which names are served is nobody's business.
async fn nowhere() -> Response {
    let body = json!({ "error": "No application answers to this host and path" });
    endpoints::json_response(StatusCode::NOT_FOUND, &body)
}
