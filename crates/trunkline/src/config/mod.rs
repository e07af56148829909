//! The configuration of a process: one TOML file, overridden by the environment, overridden by flags. Start at [`load`].
//!
//! Owns where values come from and where a mistake is shown; what values mean is checked by the parts that use them. Every
//! mistake is reported at once, with its place: no key is silently ignored.

mod document;
mod nats;
mod overrides;
mod report;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use gateway::auth::Verifier;
use gateway::config::{ApiConfig, AppConfig, ConfigError, GatewayConfig, HttpConfig, Limits, NodeConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use telemetry::log::LogFormat;

use crate::traces::TracesConfig;

pub use nats::NatsConfig;
pub use report::{Mistake, print_mistakes};

/// The whole file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A level, or `level,module=level`.
    pub log: String,
    /// `auto` (for people in a terminal, JSON lines otherwise), `json` or `text`.
    pub log_format: LogFormat,
    /// Refuses what is only for development and tests.
    pub production: bool,
    pub node: NodeConfig,
    pub nats: NatsConfig,
    pub http: HttpConfig,
    pub api: ApiConfig,
    pub coordinator: CoordinatorConfig,
    pub traces: TracesConfig,
    pub limits: Limits,
    /// The applications served, at least one.
    pub app: Vec<AppConfig>,
}

/// The process of `trunkline coordinator`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CoordinatorConfig {
    /// `/metrics`, `/healthz` and `/readyz`; `None`: not served. Another than the gateway's, so that both run on one host.
    pub admin: Option<SocketAddr>,
}

impl Default for CoordinatorConfig {
    fn default() -> Self {
        Self { admin: Some(SocketAddr::from(([127, 0, 0, 1], 9190))) }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            log: "info".to_owned(),
            log_format: LogFormat::Auto,
            production: false,
            node: NodeConfig::default(),
            nats: NatsConfig::default(),
            http: HttpConfig::default(),
            api: ApiConfig::default(),
            coordinator: CoordinatorConfig::default(),
            traces: TracesConfig::default(),
            limits: Limits::default(),
            app: Vec::new(),
        }
    }
}

impl Config {
    /// The part a gateway node is given.
    pub fn gateway(&self) -> GatewayConfig {
        GatewayConfig {
            production: self.production,
            node: self.node.clone(),
            http: self.http.clone(),
            api: self.api.clone(),
            limits: self.limits.clone(),
            app: self.app.clone(),
        }
    }

    /// Everything the types do not show, key files included.
    fn check(&self) -> Vec<ConfigError> {
        let mut errors = self.gateway().check();
        if let Err(error) = telemetry::log::check(&self.log) {
            errors.push(ConfigError::new("log", error.to_string()));
        }
        self.nats.check(&mut errors);
        self.traces.check(&mut errors);
        for (index, key) in self.api.keys.iter().enumerate() {
            let mistake = key.secret().err();
            errors.extend(
                mistake.map(|e| ConfigError::new(format!("api.keys[{index}].{}", e.path), e.message)),
            );
        }
        for (index, app) in self.app.iter().enumerate() {
            let mistakes = app.token.as_ref().and_then(|token| Verifier::build(token).err());
            let inside = |error: ConfigError| {
                ConfigError::new(format!("app[{index}].token.{}", error.path), error.message)
            };
            let token_is_right = mistakes.is_none();
            errors.extend(mistakes.into_iter().flatten().map(inside));
            let mistakes = app.ice.build().err().into_iter().flatten();
            let inside = |error: ConfigError| {
                ConfigError::new(format!("app[{index}].ice.{}", error.path), error.message)
            };
            errors.extend(mistakes.map(inside));
            let inside =
                |error: ConfigError| ConfigError::new(format!("app[{index}].{}", error.path), error.message);
            // Tokens are issued with the keys that verify them: their mistakes are said once.
            let mistakes = if token_is_right { app.check_issue() } else { Vec::new() };
            errors.extend(mistakes.into_iter().map(inside));
        }
        errors
    }
}

/// What the process is going to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    #[default]
    Gateway,
    /// It verifies no token: the keys need not be where it runs.
    Coordinator,
}

/// What a configuration is made from; the caller reads files and the environment.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Name and text of the file.
    pub file: Option<(String, String)>,
    pub environment: Vec<(String, String)>,
    /// Flags, in their order.
    pub flags: Vec<Setting>,
    pub role: Role,
}

/// A value set by a flag.
#[derive(Clone, Debug)]
pub struct Setting {
    /// As shown in messages: `--listen`.
    pub flag: String,
    /// Dotted path with indices or application names: `app.visits.path`.
    pub path: String,
    /// A TOML value, or bare text, or a list with commas: whichever the key takes.
    pub value: String,
}

/// A configuration and what is wrong with it; usable only if nothing is.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// In the order of the file, then the environment, then the flags.
    pub mistakes: Vec<Mistake>,
}

/// Merges file, environment and flags. Of `PORT`, `HOST`, `JWT_SECRET` and `CORS_ORIGINS`, the first two replace those of `http.listen`,
/// the last two fill in where an application has none; `TRUNKLINE_<SECTION>__<KEY>` is stronger than these, a flag than any.
pub fn load(inputs: &Inputs) -> Loaded {
    let mut reporter = report::Reporter::new(inputs.file.as_ref());
    let mut document =
        document::Document::parse(inputs.file.as_ref().map_or("", |(_, text)| text), &mut reporter);
    let overrides = overrides::apply(inputs, &mut document, &mut reporter);
    let syntax_is_right = reporter.is_empty();
    let mut config = document.deserialize(overrides, &mut reporter);
    config.app.iter_mut().for_each(|app| *app = app.settled());
    // After a syntax error whole sections may be missing, and what is said about them would be noise.
    if syntax_is_right {
        let mut errors = config.check();
        errors.retain(|error| inputs.role == Role::Gateway || !concerns_tokens(error));
        errors.into_iter().for_each(|error| reporter.add_check(&document, error));
    }
    Loaded { config, mistakes: reporter.finish() }
}

fn concerns_tokens(error: &ConfigError) -> bool {
    let of_app =
        error.path.starts_with("app[") && matches!(error.path.split('.').nth(1), Some("token" | "issue"));
    of_app || error.path.starts_with("api.keys[")
}
