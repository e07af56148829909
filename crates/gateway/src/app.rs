//! An application as a node serves it: its configuration, built.

use std::time::Duration;

use bus::{BucketSpec, StreamSpec};
use cluster::{coordination, subject};
use dialects::{
    Clinic, Conformance, Dialect, Diet, DietAccess, FeedSpec, Messenger, Portal, PortalSettings, Profile,
    Realtime, Telehealth,
};
use domain::ChatLimits;

use crate::auth::Verifier;
use crate::config::{
    AppConfig, Auth, ConfigError, ConformanceProfile, Dialect as DialectName, GatewayConfig, HookConfig,
    Limits,
};
use crate::hook;
use crate::issue::Issuer;
use crate::rate::Rates;

/// Built once, shared by all threads.
#[derive(Debug)]
pub struct App {
    /// Index in the configuration; names the application inside the node.
    pub ix: u16,
    /// Who shares its listener, host and path, itself included: sessions are opened by the first, sockets told apart by namespace.
    pub site: Box<[u16]>,
    pub config: AppConfig,
    pub limits: Limits,
    pub dialect: Dialect,
    pub verifier: Option<Verifier>,
    /// Of socket tokens.
    pub issuer: Option<Issuer>,
    /// The way to the application's hook.
    pub hook: Option<hook::Way>,
    /// How often a user may speak, where that is limited.
    pub rates: Option<Rates>,
    pub engine: engineio::Config,
    pub packets: socketio::Limits,
    /// Name of the event stream.
    pub events: String,
    /// Name of the chat stream.
    pub chat: String,
    /// Bucket of who has read and got what.
    pub marks: String,
    /// Bucket of who is in which room.
    pub roster: String,
    /// Bucket of what back ends' calls with an idempotency key were answered.
    pub idempotency: String,
    /// Bucket of unread notifications, if the application has any.
    pub notifications: String,
    /// Bucket of what back ends have said once and for all.
    pub facts: String,
    /// Bucket of calls, and of the users' calls.
    pub calls: String,
    /// Bucket of the users' devices, and of what is to be seen of them.
    pub presence: String,
}

impl App {
    /// All applications, or every mistake in them.
    pub fn build_all(config: &GatewayConfig) -> Result<Vec<Self>, Vec<ConfigError>> {
        let mut errors = config.check();
        let mut apps = Vec::new();
        for (ix, app) in config.app.iter().enumerate() {
            match Self::build(config, ix, app) {
                Ok(app) => apps.push(app),
                Err(more) => errors.extend(more),
            }
        }
        if errors.is_empty() { Ok(apps) } else { Err(errors) }
    }

    fn build(all: &GatewayConfig, ix: usize, config: &AppConfig) -> Result<Self, Vec<ConfigError>> {
        let limits = all.limits.with(&config.limits);
        let at = |key: &str| format!("app[{ix}].{key}");
        let token_config = config.token.as_ref().filter(|_| config.auth == Auth::Jwt);
        let verifier = token_config.map(Verifier::build).transpose().map_err(|errors| {
            let inside = |e: ConfigError| ConfigError::new(format!("{}.{}", at("token"), e.path), e.message);
            errors.into_iter().map(inside).collect::<Vec<_>>()
        })?;
        let dialect = dialect(config, &limits).map_err(|errors| within(ix, errors))?;
        let hook = config.hook.as_ref().map(HookConfig::build).transpose().map_err(|errors| {
            let inside = |e: ConfigError| ConfigError::new(format!("{}.{}", at("hook"), e.path), e.message);
            errors.into_iter().map(inside).collect::<Vec<_>>()
        })?;
        let issuer = issuer(config).map_err(|errors| within(ix, errors))?;
        let token = subject::escape_token(&config.name).into_owned();
        Ok(Self {
            ix: u16::try_from(ix).unwrap_or(u16::MAX),
            site: crate::http::routes::site_of(all, config),
            rates: config.user_rate().map(Rates::new),
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
            marks: format!("TL_{token}_marks"),
            roster: format!("TL_{token}_roster"),
            idempotency: format!("TL_{token}_idempotency"),
            notifications: format!("TL_{token}_notifications"),
            facts: format!("TL_{token}_facts"),
            calls: coordination::calls_bucket(&config.name),
            presence: coordination::presence_bucket(&config.name),
            config: config.settled(),
            limits,
            dialect,
            verifier,
            issuer,
            hook,
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

    /// Unread notifications and facts, if the application has them.
    pub fn notification_buckets(&self, replicas: usize) -> Vec<BucketSpec> {
        let notifications = self.dialect.notification_event().map(|_| &self.notifications);
        let facts = matches!(self.dialect, Dialect::Diet(_)).then_some(&self.facts);
        notifications.into_iter().chain(facts).map(|name| BucketSpec::new(name, replicas)).collect()
    }

    /// Calls and presence, if the application has them; the coordinators make them alike. Schedules of calls stand under `timer`,
    /// what they fire under `due`.
    pub fn realtime_buckets(&self, replicas: usize) -> Vec<BucketSpec> {
        if self.dialect.realtime().is_none() {
            return Vec::new();
        }
        let token = subject::escape_token(self.name());
        let calls = BucketSpec {
            allow_msg_schedules: true,
            extra_subjects: vec![format!("tl.{token}.timer.>"), format!("tl.{token}.due.>")],
            ..BucketSpec::new(&self.calls, replicas)
        };
        vec![calls, BucketSpec::new(&self.presence, replicas)]
    }

    /// One stream for each feed: the sequence is the entries' number.
    pub fn feed_streams(&self, replicas: usize) -> Vec<StreamSpec> {
        let stream = |feed: FeedSpec| StreamSpec {
            replicas,
            max_msgs_per_subject: i64::try_from(feed.kept).unwrap_or(i64::MAX),
            ..StreamSpec::new(self.feed_stream_name(feed.name), [self.feed_subject(feed.name)])
        };
        self.dialect.feeds().into_iter().map(stream).collect()
    }

    pub fn feed_stream_name(&self, feed: &str) -> String {
        format!("TL_{}_feed_{feed}", subject::escape_token(self.name()))
    }

    pub fn feed_subject(&self, feed: &str) -> String {
        format!("tl.{}.feed.{feed}", subject::escape_token(self.name()))
    }

    /// `tl.<app>.chat.<room>.<n>`.
    pub fn chat_subject(&self, room: &str, n: u64) -> String {
        format!("{}{}.{n}", self.chat_prefix(), subject::escape_token(room))
    }

    /// Every message of a room.
    pub fn chat_filter(&self, room: &str) -> String {
        format!("{}{}.*", self.chat_prefix(), subject::escape_token(room))
    }

    /// Stands for a client's own id of a message in a room: no message, so that [`Self::chat_filter`] does not match it.
    pub fn chat_client_id_subject(&self, room: &str, token: &str) -> String {
        format!("{}{}.c.{token}", self.chat_prefix(), subject::escape_token(room))
    }

    /// Before the number of one of a sender's slots of a minute. `=r` begins no escaped id, so it is no room's.
    pub fn chat_rate_prefix(&self, sender: &str) -> String {
        format!("{}=rate.{}.s.", self.chat_prefix(), subject::escape_token(sender))
    }

    /// The same for a user's requests for a socket token.
    pub fn issue_rate_prefix(&self, user: &str) -> String {
        format!("{}=rate.{}.i.", self.chat_prefix(), subject::escape_token(user))
    }

    fn chat_prefix(&self) -> String {
        format!("tl.{}.chat.", subject::escape_token(self.name()))
    }
}

/// Names, namespaces and dialects of all applications, for a process that serves no clients: no key of tokens is read.
///
/// # Errors
/// Every mistake in what dialects are built from.
pub fn dialects(config: &GatewayConfig) -> Result<Vec<(String, String, Dialect)>, Vec<ConfigError>> {
    let mut errors = Vec::new();
    let mut built = Vec::new();
    for (ix, app) in config.app.iter().enumerate() {
        match dialect(app, &config.limits.with(&app.limits)) {
            Ok(dialect) => built.push((app.name.clone(), app.namespace.clone(), dialect)),
            Err(mistakes) => errors.extend(within(ix, mistakes)),
        }
    }
    if errors.is_empty() { Ok(built) } else { Err(errors) }
}

fn within(ix: usize, errors: Vec<ConfigError>) -> Vec<ConfigError> {
    let inside = |e: ConfigError| ConfigError::new(format!("app[{ix}].{}", e.path), e.message);
    errors.into_iter().map(inside).collect()
}

/// The dialect, or its mistakes with paths relative to the application.
fn dialect(config: &AppConfig, limits: &Limits) -> Result<Dialect, Vec<ConfigError>> {
    let chat = ChatLimits {
        max_message_chars: limits.message_chars,
        max_attachments: limits.message_attachments,
        max_attachment_bytes: limits.attachment_bytes,
        max_metadata_bytes: limits.metadata_bytes,
    };
    let rights = |errors: Vec<domain::RightsError>| {
        errors.iter().map(|e| ConfigError::new("rights", e.to_string())).collect::<Vec<_>>()
    };
    Ok(match config.dialect {
        DialectName::Telehealth => Dialect::Telehealth(
            Telehealth::new(&config.namespace, config.rights.clone(), chat, realtime(config)?)
                .map_err(rights)?
                .with_chat(config.chat.clone()),
        ),
        DialectName::Messenger => Dialect::Messenger(
            Messenger::new(&config.namespace, config.rights.clone(), realtime(config)?)
                .map_err(rights)?
                .with_chat(chat, config.chat.clone()),
        ),
        DialectName::Clinic => Dialect::Clinic(
            Clinic::new(&config.namespace, config.rights.clone(), config.clinic.clone()).map_err(rights)?,
        ),
        DialectName::Diet => Dialect::Diet(
            Diet::new(
                &config.namespace,
                config.rights.clone(),
                diet_access(config),
                config.notifications.texts(),
            )
            .map_err(rights)?,
        ),
        DialectName::Portal => {
            let settings = PortalSettings {
                roles: config.portal.roles(),
                rules: config.rights.clone(),
                chat,
                max_rooms: limits.rooms_per_socket,
                refuse_at_once: config.portal.refuse_at_once,
            };
            Dialect::Portal(Portal::new(&config.namespace, settings).map_err(rights)?)
        }
        DialectName::Conformance => Dialect::Conformance(Conformance::new(match config.profile {
            Some(ConformanceProfile::Engineio) => Profile::Engineio,
            Some(ConformanceProfile::EngineClient) => Profile::EngineClient,
            Some(ConformanceProfile::Client) => Profile::Client,
            Some(ConformanceProfile::Rooms) => Profile::Rooms,
            Some(ConformanceProfile::Socketio) | None => Profile::Socketio,
        })),
    })
}

fn diet_access(config: &AppConfig) -> DietAccess {
    match config.auth {
        Auth::Jwt => DietAccess::Token,
        Auth::None => DietAccess::Open { hook: config.hook.as_ref().is_some_and(|hook| hook.rights) },
    }
}

/// Who issues socket tokens, or the mistakes with paths relative to the application.
pub fn issuer(config: &AppConfig) -> Result<Option<Issuer>, Vec<ConfigError>> {
    let (Some(issue), Some(token)) = (&config.issue, &config.token) else { return Ok(None) };
    Issuer::build(issue, token).map(Some).map_err(|errors| {
        let inside = |e: ConfigError| {
            let path = if e.path.is_empty() { "issue".to_owned() } else { format!("issue.{}", e.path) };
            ConfigError::new(path, e.message)
        };
        errors.into_iter().map(inside).collect()
    })
}

/// What calls and presence are built with.
fn realtime(config: &AppConfig) -> Result<Realtime, Vec<ConfigError>> {
    let ice = config.ice.build().map_err(|errors| {
        let inside = |e: ConfigError| ConfigError::new(format!("ice.{}", e.path), e.message);
        errors.into_iter().map(inside).collect::<Vec<_>>()
    })?;
    Ok(Realtime { calls: config.calls.clone(), presence: config.presence.clone(), ice })
}
