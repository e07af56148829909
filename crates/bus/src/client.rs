//! The async-nats connection: JetStream's API, reads and node messages.

use std::time::Duration;

use async_nats::connection::State;
use async_nats::{ConnectOptions, Event};
use bytes::Bytes;
use prometheus::IntCounter;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio_rustls::rustls::ClientConfig;

use crate::config::{Auth, BusConfig};
use crate::error::BusError;
use crate::inbox::Inbox;

/// JetStream's error code for a request to a server without JetStream for this account.
const JETSTREAM_NOT_ENABLED: [u32; 2] = [10039, 10076];

/// Messages that a subscription holds before async-nats drops new ones.
pub(crate) const SUBSCRIPTION_CAPACITY: usize = 32 * 1024;

#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub nats: async_nats::Client,
    pub inbox: Inbox,
    pub timeout: Duration,
}

/// JetStream's refusal of an API request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct ApiError {
    #[serde(default)]
    pub err_code: u32,
    #[serde(default)]
    pub description: String,
}

/// Connects, waiting at most the configured time for the first connection.
pub(crate) async fn connect(
    config: &BusConfig,
    tls: ClientConfig,
    slow_consumers: IntCounter,
) -> Result<Client, String> {
    let pauses = config.clone();
    let mut options = ConnectOptions::new()
        .name(&config.name)
        .tls_client_config(tls)
        .require_tls(config.tls.required)
        .connection_timeout(config.connect_timeout())
        .request_timeout(Some(config.request_timeout()))
        .ping_interval(config.ping_interval())
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .reconnect_delay_callback(
            move |attempt| if attempt <= 1 { Duration::ZERO } else { pauses.reconnect_delay() },
        )
        .event_callback(move |event| {
            if matches!(event, Event::SlowConsumer(_)) {
                slow_consumers.inc();
            }
            async {}
        });
    if config.tls.first {
        options = options.tls_first();
    }
    let options = with_auth(options, &config.auth).await?;
    let servers = config
        .servers
        .iter()
        .map(|server| server.parse())
        .collect::<Result<Vec<async_nats::ServerAddr>, _>>();
    let servers = servers.map_err(|error| error.to_string())?;
    let connecting = async_nats::connect_with_options(servers, options);
    let nats = tokio::time::timeout(config.request_timeout(), connecting)
        .await
        .map_err(|_| "timed out".to_owned())?
        .map_err(|error| error.to_string())?;
    let inbox = Inbox::open(&nats).await?;
    Ok(Client { nats, inbox, timeout: config.request_timeout() })
}

async fn with_auth(options: ConnectOptions, auth: &Auth) -> Result<ConnectOptions, String> {
    Ok(match auth {
        Auth::None => options,
        Auth::UserPassword { user, password } => {
            options.user_and_password(user.clone(), password.expose().to_owned())
        }
        Auth::Token { token } => options.token(token.expose().to_owned()),
        Auth::NkeySeed { seed } => options.nkey(seed.expose().to_owned()),
        Auth::CredsFile { path } => {
            options.credentials_file(path).await.map_err(|error| format!("{}: {error}", path.display()))?
        }
    })
}

impl Client {
    pub(crate) fn is_connected(&self) -> bool {
        self.nats.connection_state() == State::Connected
    }

    /// One JSON request to JetStream's API.
    pub(crate) async fn api<T: DeserializeOwned>(
        &self,
        subject: &str,
        request: &serde_json::Value,
    ) -> Result<Result<T, ApiError>, BusError> {
        let body = if request.is_null() { Bytes::new() } else { Bytes::from(request.to_string()) };
        let unavailable = || BusError::Unavailable { operation: subject.to_owned() };
        let asking = self.nats.request(format!("$JS.API.{subject}"), body);
        // The request has a timeout of its own, but a full command queue has none.
        let answer = match tokio::time::timeout(self.timeout, asking).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.kind() == async_nats::client::RequestErrorKind::NoResponders => {
                return Err(BusError::NoJetStream);
            }
            Ok(Err(_)) | Err(_) => return Err(unavailable()),
        };
        parse_answer(subject, &answer.payload)
    }

    /// Like [`Client::api`] where every refusal is an error.
    pub(crate) async fn api_or_refused<T: DeserializeOwned>(
        &self,
        subject: &str,
        request: &serde_json::Value,
    ) -> Result<T, BusError> {
        self.api(subject, request).await?.map_err(|error| error.refused(subject))
    }
}

fn parse_answer<T: DeserializeOwned>(subject: &str, body: &[u8]) -> Result<Result<T, ApiError>, BusError> {
    #[derive(Deserialize)]
    struct Refusal {
        error: Option<ApiError>,
    }
    let malformed = |error: serde_json::Error| BusError::Refused {
        operation: subject.to_owned(),
        code: 0,
        description: format!("the answer cannot be read: {error}"),
    };
    let refusal: Refusal = serde_json::from_slice(body).map_err(malformed)?;
    match refusal.error {
        Some(error) if JETSTREAM_NOT_ENABLED.contains(&error.err_code) => Err(BusError::NoJetStream),
        Some(error) => Ok(Err(error)),
        None => serde_json::from_slice(body).map(Ok).map_err(malformed),
    }
}

impl ApiError {
    pub(crate) fn refused(self, operation: &str) -> BusError {
        BusError::Refused {
            operation: operation.to_owned(),
            code: self.err_code,
            description: self.description,
        }
    }
}
