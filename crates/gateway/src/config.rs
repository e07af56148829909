//! The gateway's part of the configuration: plain values with defaults, units last in names. Owns what a value means and whether the
//! values fit together ([`GatewayConfig::check`]); where they come from (file, environment, flags) is the binary's business.

use std::collections::HashMap;
use std::net::SocketAddr;

use dialects::ClinicSettings;
use domain::call::CallSettings;
use domain::chat::ChatSettings;
use domain::notification::NotificationSettings;
use domain::presence::PresenceSettings;
use domain::{Rights, Rule};
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

/// Declares each limit once: its meaning, type and default, for [`Limits`] and [`LimitOverrides`].
macro_rules! limits {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $default:expr,)+) => {
        /// Bounds of one application on one node.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct Limits { $($(#[$doc])* pub $field: $type,)+ }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        /// The limits an application sets for itself; `None` leaves the general one.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct LimitOverrides { $(pub $field: Option<$type>,)+ }

        impl Limits {
            /// These limits with an application's own ones in place.
            #[must_use]
            pub fn with(&self, overrides: &LimitOverrides) -> Self {
                Self { $($field: overrides.$field.unwrap_or(self.$field),)+ }
            }
        }

        impl Limits {
            /// Hardly a limit may be 0: it would refuse everything.
            fn check(&self, path: &str, errors: &mut Vec<ConfigError>) {
                LimitOverrides { $($field: Some(self.$field),)+ }.check(path, errors);
            }
        }

        impl LimitOverrides {
            fn check(&self, path: &str, errors: &mut Vec<ConfigError>) {
                $(if self.$field == Some(0) && !MAY_BE_ZERO.contains(&stringify!($field)) {
                    errors.push(ConfigError::new(format!("{path}.{}", stringify!($field)), "must be at least 1"));
                })+
            }
        }
    };
}

/// Limits that 0 switches off.
const MAY_BE_ZERO: [&str; 1] = ["messages_per_minute"];

limits! {
    /// Largest Engine.IO request body or frame, announced to clients as `maxPayload`.
    max_payload_bytes: usize = 1_000_000,
    /// What waits for one slow client; over it, ephemeral events are dropped first, then the transport is closed.
    outbox_bytes: usize = 1 << 20,
    /// Open sessions of the application on this node; more are refused with 503.
    max_sessions: usize = 100_000,
    /// Rooms of one socket.
    rooms_per_socket: usize = 1024,
    /// Commands of one session that wait for their result; more stop the reading of its transport.
    pending_commands: usize = 256,
    /// Binary attachments of one packet.
    attachments: usize = 64,
    /// From handshake to the first Socket.IO CONNECT.
    connect_timeout_ms: u64 = 45_000,
    /// How often a session is pinged.
    ping_interval_ms: u64 = 25_000,
    /// A session that has not answered a ping by then is closed.
    ping_timeout_ms: u64 = 20_000,
    /// How long a connection without a token that counts may wait for one: a plain WebSocket for its first frame, the grace of `portal`.
    authenticate_timeout_ms: u64 = 10_000,
    /// From the WebSocket's opening to the packet `5`.
    upgrade_timeout_ms: u64 = 10_000,
    /// Characters of a chat message.
    message_chars: usize = 4096,
    /// Attachments of a chat message (their metadata).
    message_attachments: usize = 32,
    /// Bytes of JSON that describe one attachment of a chat message.
    attachment_bytes: usize = 16_384,
    /// Bytes of JSON in a chat message's metadata.
    metadata_bytes: usize = 65_536,
    /// Chat messages of one user in a minute, on all nodes together; 0: any number.
    messages_per_minute: usize = 0,
    /// Participants listed for one room and node thread; further ones are members but not listed.
    participants_listed: usize = 500,
    /// Sockets of one node that lists of clients show.
    clients_listed: usize = 1000,
    /// How long a recoverable event may wait for its acknowledgement before the sender hears `unavailable`.
    publish_timeout_ms: u64 = 5_000,
    /// How long a command may wait for a coordinator's decision before the sender hears `unavailable`.
    command_timeout_ms: u64 = 5_000,
}

/// One mistake in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ConfigError {
    /// The key, in dotted form with indices: `app[0].token.secret`.
    pub path: String,
    /// A sentence for the operator; never holds a secret.
    pub message: String,
}

impl ConfigError {
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// An application's subjects begin with `tl.<name>.`; these begin other ones.
const RESERVED_NAMES: [&str; 3] = ["api", "coord", "node"];

impl GatewayConfig {
    /// Every mistake that types alone do not show. Key files are read by [`crate::auth::Verifier::build`], not here.
    pub fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        if self.http.listen.is_empty() && self.app.iter().any(|app| app.listen.is_empty()) {
            errors
                .push(ConfigError::new("http.listen", "no address, and an application has none of its own"));
        }
        let timeouts = [("header", self.http.header_timeout_ms), ("body", self.http.body_timeout_ms)];
        for (name, _) in timeouts.iter().filter(|(_, ms)| *ms == 0) {
            errors.push(ConfigError::new(format!("http.{name}_timeout_ms"), "must be at least 1"));
        }
        if self.app.is_empty() {
            errors.push(ConfigError::new("app", "no application is configured: add an [[app]] section"));
        }
        self.limits.check("limits", &mut errors);
        for (index, app) in self.app.iter().enumerate() {
            self.check_app(app, &format!("app[{index}]"), &mut errors);
        }
        self.check_names(&mut errors);
        errors.extend(crate::http::routes::check(self));
        self.check_conformance(&mut errors);
        errors.extend(self.api.check(&self.app));
        errors
    }

    fn check_app(&self, app: &AppConfig, at: &str, errors: &mut Vec<ConfigError>) {
        let mut refuse =
            |key: &str, message: &str| errors.push(ConfigError::new(format!("{at}.{key}"), message));
        let name_char = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        if app.name.is_empty() || app.name.len() > 32 || !app.name.bytes().all(name_char) {
            refuse("name", "must be 1 to 32 characters of a-z, 0-9, `_` and `-`");
        }
        if RESERVED_NAMES.contains(&app.name.as_str()) {
            refuse("name", "is a part of subjects that Trunkline keeps for itself");
        }
        if !app.path.starts_with('/') || app.base_path().is_empty() {
            refuse("path", "must start with `/` and be longer than that, like `/socket.io/`");
        }
        if app.plain_base().is_some_and(|path| !path.starts_with('/') || path == app.base_path()) {
            refuse("plain_path", "must start with `/`, be longer than that, and differ from `path`");
        }
        if !app.namespace.starts_with('/') {
            refuse("namespace", "must start with `/`");
        }
        if app.cors_origins.iter().any(|origin| !is_origin(origin)) {
            refuse("cors_origins", "each must be `*` or `scheme://host[:port]` without a path");
        }
        match (app.dialect, app.profile) {
            (Dialect::Conformance, None) => {
                refuse(
                    "profile",
                    "the conformance dialect needs `profile`: engineio, socketio, engine-client, client or rooms",
                );
            }
            (dialect, Some(_)) if dialect != Dialect::Conformance => {
                refuse("profile", "belongs to the conformance dialect only")
            }
            _ => {}
        }
        if app.dialect != Dialect::Conformance && app.auth == Auth::Jwt && app.token.is_none() {
            refuse(
                "token",
                "no key to verify tokens with: set app.token.secret (or JWT_SECRET), or app.token.keys",
            );
        }
        match (app.auth, app.dialect) {
            (Auth::Jwt, _) => {}
            (Auth::None, Dialect::Diet) if self.production && !app.acknowledge_no_auth => refuse(
                "auth",
                "`none` believes whoever connects and is refused with production = true, unless acknowledge_no_auth = true",
            ),
            (Auth::None, Dialect::Diet) => {}
            (Auth::None, _) => refuse("auth", "`none` is for the diet dialect only"),
        }
        if app.issue.is_some() && app.dialect != Dialect::Portal {
            refuse("issue", "socket tokens are issued for the portal dialect only");
        }
        for mistake in Rights::new(app.rights.clone()).err().into_iter().flatten() {
            errors.push(ConfigError::new(format!("{at}.rights"), mistake.to_string()));
        }
        self.check_retention(app, at, errors);
        check_calls(&app.calls, &format!("{at}.calls"), errors);
        self.check_dev_users(app, at, errors);
        check_notifications(&app.notifications, &format!("{at}.notifications"), errors);
        check_presence(&app.presence, &format!("{at}.presence"), errors);
        self.check_chat(app, at, errors);
        check_clinic(&app.clinic, &format!("{at}.clinic"), errors);
        app.limits.check(&format!("{at}.limits"), errors);
    }

    /// A client that fell silent is noticed after a ping interval and timeout; its missed events must still be there then.
    fn check_retention(&self, app: &AppConfig, at: &str, errors: &mut Vec<ConfigError>) {
        let limits = self.limits.with(&app.limits);
        let detection_s = (limits.ping_interval_ms + limits.ping_timeout_ms).div_ceil(1000);
        let least_s = detection_s + 60;
        if app.retention.events_max_age_s < least_s {
            let message =
                format!("must be at least {least_s}: ping interval and timeout, and a minute of margin");
            errors.push(ConfigError::new(format!("{at}.retention.events_max_age_s"), message));
        }
    }

    fn check_dev_users(&self, app: &AppConfig, at: &str, errors: &mut Vec<ConfigError>) {
        for (index, user) in app.dev_users.iter().enumerate() {
            let mut refuse = |key: &str, message: &str| {
                errors.push(ConfigError::new(format!("{at}.dev_users[{index}]{key}"), message));
            };
            if self.production {
                refuse("", "is for development only and refused with production = true");
            }
            if user.email.is_empty() || user.password.expose().is_empty() {
                refuse("", "needs an email and a password");
            }
            if domain::UserId::from_json(&user.user).is_none() {
                refuse(".user", "must be a string or an integer");
            }
        }
    }

    fn check_chat(&self, app: &AppConfig, at: &str, errors: &mut Vec<ConfigError>) {
        /// Slots of one sender that one read finds by subject.
        const MOST_PER_MINUTE: usize = 1000;
        let mistakes = app.chat.mistakes().into_iter();
        errors.extend(mistakes.map(|(name, must)| ConfigError::new(format!("{at}.chat.{name}"), must)));
        if app.chat.open && self.production {
            let why = "lets everybody into every chat and is refused with production = true";
            errors.push(ConfigError::new(format!("{at}.chat.open"), why));
        }
        if self.limits.with(&app.limits).messages_per_minute > MOST_PER_MINUTE {
            let path = format!("{at}.limits.messages_per_minute");
            errors.push(ConfigError::new(path, format!("must be at most {MOST_PER_MINUTE}; 0: any number")));
        }
    }

    fn check_names(&self, errors: &mut Vec<ConfigError>) {
        let mut first: HashMap<&str, usize> = HashMap::new();
        for (index, app) in self.app.iter().enumerate() {
            if let Some(other) = first.insert(&app.name, index) {
                let message = format!("`{}` is already the name of app[{other}]", app.name);
                errors.push(ConfigError::new(format!("app[{index}].name"), message));
            }
        }
    }

    /// Where an application listens: its own addresses or the general ones.
    pub fn listen_of<'a>(&'a self, app: &'a AppConfig) -> &'a [SocketAddr] {
        if app.listen.is_empty() { &self.http.listen } else { &app.listen }
    }

    fn check_conformance(&self, errors: &mut Vec<ConfigError>) {
        let protected = self.app.iter().any(|app| app.token.is_some());
        for (index, _) in self.app.iter().enumerate().filter(|(_, app)| app.dialect == Dialect::Conformance) {
            let why = match (self.production, protected) {
                (true, _) => {
                    "the conformance dialect has no authentication and is refused with production = true"
                }
                (false, true) => {
                    "the conformance dialect has no authentication and is refused beside an application that asks for tokens"
                }
                (false, false) => continue,
            };
            errors.push(ConfigError::new(format!("app[{index}].dialect"), why));
        }
    }
}

/// What would refuse every call, or what NATS cannot keep.
fn check_calls(calls: &CallSettings, at: &str, errors: &mut Vec<ConfigError>) {
    let least = [
        ("ring_ms", calls.ring_ms(), 1),
        ("per_user", calls.per_user as u64, 1),
        ("ringing_per_user", calls.ringing_per_user as u64, 1),
        ("participants", calls.participants as u64, 2),
        ("signal_bytes", calls.signal_bytes as u64, 1),
        ("annotation_bytes", calls.annotation_bytes as u64, 1),
        // The shortest time to live of a message.
        ("kept_ms", calls.kept_ms, 1000),
    ];
    check_least(&least, at, errors);
}

fn check_notifications(settings: &NotificationSettings, at: &str, errors: &mut Vec<ConfigError>) {
    let least = [
        ("per_user", settings.per_user as u64, 1),
        // The shortest time to live of a message.
        ("max_age_s", settings.max_age_s, 1),
        ("bytes", settings.bytes as u64, 1),
        ("page", settings.page as u64, 1),
        ("page_most", settings.page_most as u64, settings.page as u64),
    ];
    check_least(&least, at, errors);
    if settings.per_user > NotificationSettings::MOST_PER_USER {
        let message = format!("must be at most {}", NotificationSettings::MOST_PER_USER);
        errors.push(ConfigError::new(format!("{at}.per_user"), message));
    }
}

fn check_clinic(clinic: &ClinicSettings, at: &str, errors: &mut Vec<ConfigError>) {
    let least = [
        ("audit_kept", clinic.audit_kept, 1),
        ("catalog_kept", clinic.catalog_kept, 1),
        ("page_entries", clinic.page_entries, 1),
        ("text_chars", clinic.text_chars as u64, 1),
        ("pdf_bytes", clinic.pdf_bytes as u64, 1),
    ];
    check_least(&least, at, errors);
    for (name, role) in [("administrator", &clinic.administrator), ("doctor", &clinic.doctor)] {
        if role.is_empty() {
            errors.push(ConfigError::new(format!("{at}.{name}"), "must name a role"));
        }
    }
}

fn check_presence(presence: &PresenceSettings, at: &str, errors: &mut Vec<ConfigError>) {
    check_least(&[("users_per_question", presence.users_per_question as u64, 1)], at, errors);
}

/// Names, values, and the least that they may be.
fn check_least(values: &[(&str, u64, u64)], at: &str, errors: &mut Vec<ConfigError>) {
    let low = values.iter().filter(|(_, value, least)| value < least);
    errors.extend(low.map(|(name, _, least)| {
        ConfigError::new(format!("{at}.{name}"), format!("must be at least {least}"))
    }));
}

fn is_origin(origin: &str) -> bool {
    let is_url = || {
        origin
            .split_once("://")
            .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty() && !rest.contains('/'))
    };
    origin == "*" || is_url()
}
