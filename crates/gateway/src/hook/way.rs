//! How a question reaches the hook and its answer comes back: HTTP or NATS.

use std::time::Instant;

use bus::Bus;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Full;

use crate::outbound::Outbound;

/// Where the hook is.
#[derive(Clone, Debug)]
pub enum Way {
    Http(Box<HttpWay>),
    Nats { subject: String },
}

#[derive(Clone, Debug)]
pub struct HttpWay {
    pub url: Uri,
    pub client: Outbound,
    pub authorization: Option<HeaderValue>,
}

impl Way {
    /// The same way for another thread, with connections of its own.
    pub fn for_thread(&self) -> Self {
        match self {
            Self::Http(way) => {
                Self::Http(Box::new(HttpWay { client: way.client.with_own_connections(), ..(**way).clone() }))
            }
            Self::Nats { .. } => self.clone(),
        }
    }

    /// The answer's body; `None`: the hook says no without one.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub async fn ask(
        &self,
        bus: &Bus,
        question: Vec<u8>,
        max_bytes: usize,
        deadline: Instant,
    ) -> Result<Option<Bytes>, String> {
        let HttpWay { url, client, authorization } = match self {
            Self::Http(way) => &**way,
            Self::Nats { subject } => {
                let answer =
                    bus.request(subject, &question, deadline).await.map_err(|error| error.to_string())?;
                return if answer.len() > max_bytes {
                    Err("the answer is too large".to_owned())
                } else {
                    Ok(Some(answer))
                };
            }
        };
        let mut request = Request::post(url.clone()).header(header::CONTENT_TYPE, "application/json");
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let request = request.body(Full::from(question)).map_err(|error| error.to_string())?;
        match client.send(request, max_bytes, deadline).await {
            Ok((StatusCode::OK, body)) => Ok(Some(body)),
            Ok((StatusCode::FORBIDDEN, _)) => Ok(None),
            Ok((status, _)) => Err(format!("the answer's status is {status}")),
            Err(error) => Err(error.to_string()),
        }
    }
}
