//! An application as a node serves it: its configuration, built.

use std::time::Duration;

use bus::StreamSpec;
use cluster::subject;
use dialects::{Conformance, Dialect, Profile, Realtime, Telehealth};
use domain::ChatLimits;
use domain::ice::IceServers;

use crate::auth::Verifier;
use crate::config::{
    AppConfig, ConfigError, ConformanceProfile, Dialect as DialectName, GatewayConfig, Limits,
};

/// Built once, shared by all threads.
#[derive(Debug)]
pub struct App {
    /// Index in the configuration; names the application inside the node.
    pub ix: u16,
    pub config: AppConfig,
    pub limits: Limits,
    pub dialect: Dialect,
    pub verifier: Option<Verifier>,
    pub engine: engineio::Config,
    pub packets: socketio::Limits,
    /// Name of the event stream.
    pub events: String,
    /// Name of the chat stream.
    pub chat: String,
    /// Bucket of who is in which room.
    pub roster: String,
}

impl App {
    /// All applications, or every mistake in them.
    pub fn build_all(config: &GatewayConfig) -> Result<Vec<Self>, Vec<ConfigError>> {
        let mut errors = config.check();
        let mut apps = Vec::new();
        for (ix, app) in config.app.iter().enumerate() {
            match Self::build(ix, app, config.limits.with(&app.limits)) {
                Ok(app) => apps.push(app),
                Err(more) => errors.extend(more),
            }
        }
        if errors.is_empty() { Ok(apps) } else { Err(errors) }
    }

    fn build(ix: usize, config: &AppConfig, limits: Limits) -> Result<Self, Vec<ConfigError>> {
        let at = |key: &str| format!("app[{ix}].{key}");
        let verifier = config.token.as_ref().map(Verifier::build).transpose().map_err(|errors| {
            let inside = |e: ConfigError| ConfigError::new(format!("{}.{}", at("token"), e.path), e.message);
            errors.into_iter().map(inside).collect::<Vec<_>>()
        })?;
        let dialect = dialect(config, &limits).map_err(|errors| {
            errors.iter().map(|e| ConfigError::new(at("rights"), e.to_string())).collect::<Vec<_>>()
        })?;
        let token = subject::escape_token(&config.name).into_owned();
        Ok(Self {
            ix: u16::try_from(ix).unwrap_or(u16::MAX),
            engine: engineio::Config {
                ping_interval_ms: limits.ping_interval_ms,
                ping_timeout_ms: limits.ping_timeout_ms,
                max_payload: limits.max_payload_bytes,
                upgrade_timeout_ms: limits.upgrade_timeout_ms,
                max_queue_bytes: limits.outbox_bytes,
                ..engineio::Config::default()
            },
            packets: socketio::Limits {
                max_attachments: limits.attachments,
                max_packet_bytes: 4 * limits.max_payload_bytes,
                ..socketio::Limits::default()
            },
            events: subject::event_stream_name(&config.name),
            chat: format!("TL_{token}_chat"),
            roster: format!("TL_{token}_roster"),
            config: config.clone(),
            limits,
            dialect,
            verifier,
        })
    }

    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The stream of recoverable events.
    pub fn event_stream(&self, replicas: usize) -> StreamSpec {
        StreamSpec {
            replicas,
            max_age: Duration::from_secs(self.config.retention.events_max_age_s),
            max_bytes: i64::try_from(self.config.retention.events_max_bytes).unwrap_or(i64::MAX),
            republish: Some(subject::event_republish(self.name())),
            allow_atomic: true,
            allow_msg_ttl: true,
            ..StreamSpec::new(&self.events, [subject::event_stream_filter(self.name())])
        }
    }

    /// The stream of stored conversations: one message per subject, for ever.
    pub fn chat_stream(&self, replicas: usize) -> StreamSpec {
        StreamSpec {
            replicas,
            allow_atomic: true,
            allow_msg_ttl: true,
            allow_rollup: true,
            max_msgs_per_subject: 1,
            ..StreamSpec::new(&self.chat, [format!("{}>", self.chat_prefix())])
        }
    }

    /// `tl.<app>.chat.<room>.<n>`.
    pub fn chat_subject(&self, room: &str, n: u64) -> String {
        format!("{}{}.{n}", self.chat_prefix(), subject::escape_token(room))
    }

    /// Every message of a room.
    pub fn chat_filter(&self, room: &str) -> String {
        format!("{}{}.*", self.chat_prefix(), subject::escape_token(room))
    }

    fn chat_prefix(&self) -> String {
        format!("tl.{}.chat.", subject::escape_token(self.name()))
    }
}

/// What calls and presence are built with.
fn realtime(config: &AppConfig) -> Realtime {
    Realtime { calls: config.calls.clone(), presence: config.presence.clone(), ice: IceServers::default() }
}

fn dialect(config: &AppConfig, limits: &Limits) -> Result<Dialect, Vec<domain::RightsError>> {
    let chat =
        ChatLimits { max_message_chars: limits.message_chars, max_attachments: limits.message_attachments };
    Ok(match config.dialect {
        DialectName::Telehealth => Dialect::Telehealth(Telehealth::new(
            &config.namespace,
            config.rights.clone(),
            chat,
            realtime(config),
        )?),
        DialectName::Conformance => Dialect::Conformance(Conformance::new(match config.profile {
            Some(ConformanceProfile::Engineio) => Profile::Engineio,
            Some(ConformanceProfile::EngineClient) => Profile::EngineClient,
            Some(ConformanceProfile::Client) => Profile::Client,
            Some(ConformanceProfile::Rooms) => Profile::Rooms,
            Some(ConformanceProfile::Socketio) | None => Profile::Socketio,
        })),
    })
}
