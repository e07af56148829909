//! The gateway's part of the configuration: plain values with defaults, units last in names. Owns what a value means; `check` owns
//! whether the values fit together, `limits` what a node allows. Where they come from (file, environment, flags) is the binary's business.

mod check;
mod limits;

use std::net::SocketAddr;

use dialects::ClinicSettings;
use domain::Rule;
use domain::call::CallSettings;
use domain::chat::ChatSettings;
use domain::notification::NotificationSettings;
use domain::presence::PresenceSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use socketio::Parser;
use telemetry::Secret;

pub use crate::api::config::{ApiConfig, ApiKeyConfig, Scope};
use crate::auth::TokenConfig;
pub use crate::hook::HookConfig;
pub use crate::http::Network;
pub use crate::ice_config::{IceConfig, TurnConfig};
pub use crate::issue::{CookieConfig, IssueConfig, SameSite};
pub use crate::portal_config::PortalConfig;
pub use check::ConfigError;
pub use limits::{LimitOverrides, Limits};

/// Everything a gateway node is told at start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// Refuses what is only for development and tests: the `conformance` dialect.
    pub production: bool,
    pub node: NodeConfig,
    pub http: HttpConfig,
    pub api: ApiConfig,
    /// Limits of every application; `app.limits` overrides single ones.
    pub limits: Limits,
    /// The applications served, at least one.
    pub app: Vec<AppConfig>,
}

/// The process as a member of the cluster.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// Shown in logs and metrics; `None`: made up at start. The address of the node on the bus is another, random one.
    pub name: Option<String>,
    /// Threads that own sockets; 0: one per core.
    pub shards: usize,
    /// Longest drain in seconds: what is still connected then is cut.
    pub drain_s: u64,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self { name: None, shards: 0, drain_s: 30 }
    }
}

/// Where the process listens.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Client addresses of every application that names none; port 0 takes a free one, for all that name the same address.
    pub listen: Vec<SocketAddr>,
    /// Proxies, by address or network (`10.0.0.0/8`), whose `X-Forwarded-For`, `-Proto` and `-Host` are believed; empty: nobody's are.
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<Network>,
    /// `/metrics`, `/healthz` and `/readyz`; `None`: not served.
    pub admin: Option<SocketAddr>,
    /// A connection that has not sent its request head by then is closed.
    pub header_timeout_ms: u64,
    /// A request whose body is not here by then is answered with 408, and its connection closed.
    pub body_timeout_ms: u64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 8080))],
            trusted_proxies: Vec::new(),
            admin: Some(SocketAddr::from(([127, 0, 0, 1], 9090))),
            header_timeout_ms: 10_000,
            body_timeout_ms: 30_000,
        }
    }
}

/// One application: which requests are its own, who may enter, what language it speaks.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AppConfig {
    /// Names the application in subjects, streams and metrics: `[a-z0-9_-]`, 1 to 32 characters, unique.
    pub name: String,
    /// What its clients say and hear: one of the five applications, or the test servers of the public protocol suites.
    pub dialect: Dialect,
    /// HTTP path; with and without the trailing slash is the same.
    pub path: String,
    /// Path of its plain WebSocket, such as `/events`; `None`: it has none.
    pub plain_path: Option<String>,
    /// Its Socket.IO namespace. Applications with the same listener, host and path are told apart by it.
    pub namespace: String,
    /// What its clients' packets look like: `json`, the protocol's own, or `msgpack` (npm `socket.io-msgpack-parser`). Clients must
    /// be set to the same; one that is not is closed with its first packet. The plain WebSocket speaks JSON all the same.
    #[schemars(with = "String")]
    pub parser: Parser,
    /// `Host` names (without port) it answers to; empty: any that no other one has on its listener and path.
    pub hosts: Vec<String>,
    /// Own addresses; empty: those of `http.listen`.
    pub listen: Vec<SocketAddr>,
    /// Browser origins allowed besides the same origin, exactly as browsers send them; `"*"`: any.
    pub cors_origins: Vec<String>,
    /// Whether clients show a token.
    pub auth: Auth,
    /// Users who may log in by HTTP during development; refused with `production = true`.
    pub dev_users: Vec<DevUser>,
    /// Says that `auth = "none"` is meant: asked for with `production = true`.
    pub acknowledge_no_auth: bool,
    /// Whom to believe; `None`: nobody is asked (the `conformance` dialect, or `auth = "none"`).
    pub token: Option<TokenConfig>,
    pub on_token_expiry: OnTokenExpiry,
    /// The application's own server, asked about users and about rights that no rule grants.
    pub hook: Option<HookConfig>,
    /// Bytes of the list of revoked tokens; one that is full refuses further entries.
    pub revocations_max_bytes: i64,
    /// Limits of this application; one that is not given is that of the whole node.
    pub limits: LimitOverrides,
    pub retention: Retention,
    /// What calls may do; gateways and coordinators are given the same.
    pub calls: CallSettings,
    /// What presence does; gateways and coordinators are given the same.
    pub presence: PresenceSettings,
    /// What chat and typing may do.
    pub chat: ChatSettings,
    pub notifications: NotificationSettings,
    /// Servers that the participants of calls are told of.
    pub ice: IceConfig,
    /// Rights to rooms, what no rule grants is refused; empty: the dialect's defaults.
    pub rights: Vec<Rule>,
    /// Messages with so many bytes are compressed for WebSocket clients that take it (permessage-deflate); `None`: none is.
    pub compress_over_bytes: Option<usize>,
    /// Events that one user may send in a minute, at whichever nodes; `None`: 600 for `clinic`, no limit for others; 0: no limit.
    pub events_per_minute: Option<u32>,
    /// What `clinic` is built with.
    pub clinic: ClinicSettings,
    pub portal: PortalConfig,
    /// Socket tokens for the sessions of `portal`; `None`: none are issued.
    pub issue: Option<IssueConfig>,
    /// Which suite the `conformance` dialect serves.
    pub profile: Option<ConformanceProfile>,
}

impl Default for AppConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            dialect: Dialect::Telehealth,
            path: "/socket.io/".to_owned(),
            plain_path: None,
            namespace: "/".to_owned(),
            parser: Parser::Json,
            hosts: Vec::new(),
            listen: Vec::new(),
            cors_origins: Vec::new(),
            auth: Auth::Jwt,
            dev_users: Vec::new(),
            acknowledge_no_auth: false,
            token: None,
            on_token_expiry: OnTokenExpiry::Close,
            hook: None,
            revocations_max_bytes: 64 << 20,
            limits: LimitOverrides::default(),
            retention: Retention::default(),
            calls: CallSettings::default(),
            presence: PresenceSettings::default(),
            chat: ChatSettings::default(),
            notifications: NotificationSettings::default(),
            ice: IceConfig::default(),
            rights: Vec::new(),
            compress_over_bytes: None,
            events_per_minute: None,
            clinic: ClinicSettings::default(),
            portal: PortalConfig::default(),
            issue: None,
            profile: None,
        }
    }
}

impl AppConfig {
    /// The plain WebSocket's path without its trailing slash.
    pub fn plain_base(&self) -> Option<&str> {
        self.plain_path.as_deref().map(|path| path.trim_end_matches('/'))
    }

    /// Events that one user may send in a minute; `None`: no limit.
    pub fn user_rate(&self) -> Option<u32> {
        /// Ten a second: nobody's screen asks more often.
        const CLINIC: u32 = 600;
        let default = (self.dialect == Dialect::Clinic).then_some(CLINIC);
        self.events_per_minute.or(default).filter(|rate| *rate > 0)
    }

    /// With the dialect's own defaults in place.
    pub fn settled(&self) -> Self {
        let mut app = self.clone();
        if app.auth == Auth::None {
            // Rules for tokens, of the environment perhaps, make nobody show one.
            app.token = None;
        }
        if let (Dialect::Portal, Some(token)) = (app.dialect, &mut app.token) {
            token.sources = token.sources_or(&crate::portal_config::token_sources());
        }
        if let Some(issue) = &mut app.issue {
            issue.session.sources = issue.session.sources_or(&crate::issue::session_sources());
        }
        app
    }

    /// Mistakes in the section that issues tokens, keys included, with paths relative to the application.
    pub fn check_issue(&self) -> Vec<ConfigError> {
        crate::app::issuer(self).err().unwrap_or_default()
    }

    /// The path without its trailing slash: `/socket.io`.
    pub fn base_path(&self) -> &str {
        self.path.trim_end_matches('/')
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    Telehealth,
    Messenger,
    Diet,
    Clinic,
    Portal,
    Conformance,
}

/// Whether clients show a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// Who shows none that counts is refused.
    Jwt,
    /// Everybody is believed: the `diet` dialect's old clients, which have no token. `app.token` is not asked then.
    None,
}

/// The handlers and timings of one public suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ConformanceProfile {
    Engineio,
    Socketio,
    EngineClient,
    Client,
    /// Rooms for load tests.
    Rooms,
}

/// A user of the development configuration (`POST /api/v1/auth/login`).
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DevUser {
    /// What the user logs in with.
    pub email: String,
    /// Compared as it stands here.
    pub password: Secret<String>,
    /// The user id: a string or an integer.
    pub user: serde_json::Value,
    /// The role in the token.
    pub role: Option<String>,
    /// The name in the token.
    pub name: Option<String>,
    /// Further claims of the token.
    pub claims: serde_json::Map<String, serde_json::Value>,
}

/// What the expiry of a live connection's token does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnTokenExpiry {
    /// Closes the transport: the client comes back on its own, with a new token or to be refused.
    Close,
    /// Logs and counts.
    Warn,
    Off,
}

/// How long the application's recoverable events stay in its stream.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Events older than this are gone: who was away for longer has missed them.
    pub events_max_age_s: u64,
    /// The oldest events go first when the stream grows over this.
    pub events_max_bytes: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { events_max_age_s: 600, events_max_bytes: 1 << 30 }
    }
}

impl GatewayConfig {
    /// Where an application listens: its own addresses or the general ones.
    pub fn listen_of<'a>(&'a self, app: &'a AppConfig) -> &'a [SocketAddr] {
        if app.listen.is_empty() { &self.http.listen } else { &app.listen }
    }
}
