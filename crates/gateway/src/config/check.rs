//! Whether the values of a configuration fit together: every mistake at once, with the key it is at. Start at [`GatewayConfig::check`].

use std::collections::HashMap;

use dialects::ClinicSettings;
use domain::Rights;
use domain::call::CallSettings;
use domain::notification::NotificationSettings;
use domain::presence::PresenceSettings;

use super::{AppConfig, Auth, Dialect, GatewayConfig};

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
        check_clients(app, self.production, &mut refuse);
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

/// Whom the application believes, and whether that is meant. `refuse` takes a key and what is wrong with it.
fn check_clients(app: &AppConfig, production: bool, refuse: &mut impl FnMut(&str, &str)) {
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
        (Auth::None, Dialect::Diet) if production && !app.acknowledge_no_auth => refuse(
            "auth",
            "`none` believes whoever connects and is refused with production = true, unless acknowledge_no_auth = true",
        ),
        (Auth::None, Dialect::Diet) => {}
        (Auth::None, _) => refuse("auth", "`none` is for the diet dialect only"),
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
