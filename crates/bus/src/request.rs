//! Requests and those who answer them: core NATS, on the room connection, at most once.
//!
//! The asker repeats what may be repeated; the server of a request keeps nothing. Start at [`Bus::request`] and
//! [`Bus::serve`].

use std::time::Instant;

use bytes::Bytes;

use crate::bus::Bus;
use crate::error::{BusError, PublishError, RequestError};
use crate::lean::Answer;
use crate::listen::Listener;
use crate::outbox::Refused;
use crate::wire::{self, Message};

/// Requests that wait for [`Requests::next`] at most; beyond it new ones are dropped, and their askers time out.
const MAX_WAITING: usize = 4096;

/// A request to be answered with [`Bus::reply`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub subject: String,
    pub payload: Bytes,
    /// Where the answer goes.
    pub reply: String,
    /// The whole block; empty if there are none.
    pub headers: Bytes,
}

impl Request {
    /// Value of a header; names compare without case.
    pub fn header(&self, name: &str) -> Option<&str> {
        wire::header_value(&self.headers, name)
    }
}

/// The requests for one subject; dropping it ends the subscription and drops what waits.
#[derive(Debug)]
pub struct Requests {
    listener: Listener,
}

impl Bus {
    /// Asks whoever serves `subject` and returns the body of the answer. The request is queued during the call, so calls
    /// keep their order; dropping the future does not unsend it. Sent once: [`RequestError::TimedOut`] and
    /// [`RequestError::Lost`] leave open whether it was executed.
    pub fn request(
        &self,
        subject: &str,
        payload: &[u8],
        deadline: Instant,
    ) -> impl Future<Output = Result<Bytes, RequestError>> + Send + use<> {
        self.request_with(subject, None, payload, deadline)
    }

    /// The same with a header, by name and value; one that would break the message is left out.
    pub fn request_with(
        &self,
        subject: &str,
        header: Option<(&str, &str)>,
        payload: &[u8],
        deadline: Instant,
    ) -> impl Future<Output = Result<Bytes, RequestError>> + Send + use<> {
        let header = header.filter(|(name, value)| wire::is_header(name, value));
        let sent = self.check_request(subject, payload).and_then(|()| {
            let put = |out: &mut Vec<u8>, reply: &str| match header {
                None => wire::put_pub(out, subject, Some(reply), payload),
                Some(header) => {
                    wire::put_hpub(out, subject, Some(reply), &wire::encode_headers([header]), payload);
                }
            };
            self.shared().request(put).map_err(|refused| match refused {
                Refused::Full => RequestError::Overloaded,
                Refused::Disconnected => RequestError::Lost,
            })
        });
        self.shared().urge();
        async move {
            let (_ticket, answer) = sent?;
            match tokio::time::timeout_at(deadline.into(), answer).await {
                Err(_) => Err(RequestError::TimedOut),
                Ok(Ok(Answer::Reply(body))) => Ok(body),
                Ok(Ok(Answer::NoResponders)) => Err(RequestError::NoResponders),
                Ok(Ok(Answer::Lost) | Err(_)) => Err(RequestError::Lost),
            }
        }
    }

    fn check_request(&self, subject: &str, payload: &[u8]) -> Result<(), RequestError> {
        let limit = self.shared().max_payload();
        if !wire::is_publishable(subject) {
            return Err(RequestError::Subject { subject: subject.to_owned() });
        }
        if payload.len() > limit {
            return Err(RequestError::TooLarge { bytes: payload.len(), limit });
        }
        Ok(())
    }

    /// Takes requests for `subject`; each goes to one member of the queue group `queue`. Survives reconnects. The
    /// subscription is queued here and takes effect in the server in the order of this bus: see [`Bus::flush`].
    pub fn serve(&self, subject: &str, queue: &str) -> Result<Requests, BusError> {
        for name in [subject, queue] {
            if !wire::is_subscribable(name) {
                return Err(BusError::Subject { subject: name.to_owned() });
            }
        }
        let interest = format!("{subject} {queue}");
        Ok(Requests { listener: Listener::open(self.shared(), &interest, MAX_WAITING) })
    }

    /// Answers a request. Never waits; a lone answer is written at once.
    pub fn reply(&self, reply: &str, payload: impl AsRef<[u8]>) -> Result<(), PublishError> {
        self.publish(reply, payload)
    }
}

impl Requests {
    /// The next request. Cancelling the call loses nothing; after the bus is gone it waits for ever.
    pub async fn next(&mut self) -> Request {
        loop {
            match self.listener.next().await {
                Some(message) => {
                    if let Some(request) = request_of(message) {
                        return request;
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Ends the subscription and returns the requests that this process has been given and not yet taken: the others get
    /// none of them, so they want to be answered.
    pub async fn stop(mut self, deadline: Instant) -> Vec<Request> {
        self.listener.stop(deadline).await;
        let mut rest = Vec::new();
        while let Some(message) = self.listener.next().await {
            rest.extend(request_of(message));
        }
        rest
    }
}

/// `None`: nobody waits for an answer, so it is no request.
fn request_of(message: Message) -> Option<Request> {
    let reply = std::str::from_utf8(message.reply.as_ref()?).ok()?.to_owned();
    let subject = String::from_utf8_lossy(&message.subject).into_owned();
    Some(Request { subject, payload: message.payload, reply, headers: message.headers })
}
