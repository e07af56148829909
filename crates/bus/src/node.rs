//! Messages between nodes: each node has an inbox, and each message a tag that its answer or its failure carries.
//!
//! The sender's reply subject is in its own inbox with the same tag, so the server's "no responders" status for a node that
//! is gone arrives there and is matched by tag; nothing needs a subscription per request. At most once.

use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::StreamExt;

use crate::bus::Bus;
use crate::error::BusError;
use crate::types::{NodeBody, NodeDelivery};
use crate::wire;

/// What other nodes send to this one.
#[derive(Debug)]
pub struct NodeInbox {
    messages: Subscriber,
}

impl Bus {
    /// Opens the inbox `tl.node.<me>.in.>`; `me` is a subject token. From now on [`Bus::send_node`] sends in its name.
    pub async fn node_inbox(&self, me: &str) -> Result<NodeInbox, BusError> {
        let filter = format!("tl.node.{me}.in.>");
        if !wire::is_publishable(&format!("tl.node.{me}.in.0")) {
            return Err(BusError::Subject { subject: filter });
        }
        let client = &self.inner.client;
        let subscribing = client.nats.subscribe(filter.clone());
        let messages = tokio::time::timeout(client.timeout, subscribing)
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or(BusError::Unavailable { operation: filter })?;
        // A second inbox of one process would get the answers of the first: the first one's name stays.
        let _ = self.inner.node.set(me.to_owned());
        Ok(NodeInbox { messages })
    }

    /// Sends to a node's inbox. Returns when the message is queued; if no such node listens, the own inbox gets
    /// [`NodeBody::NoResponders`] with this tag.
    pub async fn send_node(&self, to: &str, tag: u64, payload: Bytes) -> Result<(), BusError> {
        let me = self.inner.node.get().ok_or(BusError::NoInbox)?;
        self.send(format!("tl.node.{to}.in.{tag}"), Some(format!("tl.node.{me}.in.{tag}")), payload).await
    }

    /// Sends to the `from_reply` of a delivery.
    pub async fn reply_node(&self, from_reply: &str, payload: Bytes) -> Result<(), BusError> {
        self.send(from_reply.to_owned(), None, payload).await
    }

    async fn send(&self, subject: String, reply: Option<String>, payload: Bytes) -> Result<(), BusError> {
        if !wire::is_publishable(&subject) {
            return Err(BusError::Subject { subject });
        }
        let limit = self.shared().max_payload();
        if payload.len() > limit {
            return Err(BusError::TooLarge { bytes: payload.len(), limit });
        }
        let client = &self.inner.client;
        let sending = async {
            match reply {
                Some(reply) => client.nats.publish_with_reply(subject.clone(), reply, payload).await,
                None => client.nats.publish(subject.clone(), payload).await,
            }
        };
        // While disconnected a full command queue would wait for ever.
        match tokio::time::timeout(client.timeout, sending).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(BusError::Unavailable { operation: subject.clone() }),
        }
    }
}

impl NodeInbox {
    /// The next message. Cancelling the call loses nothing; after the bus is gone it waits for ever.
    pub async fn next(&mut self) -> NodeDelivery {
        loop {
            let Some(message) = self.messages.next().await else {
                return std::future::pending().await;
            };
            let Some(tag) = message.subject.rsplit('.').next().and_then(|tag| tag.parse().ok()) else {
                continue;
            };
            let body = match message.status.map(|status| status.as_u16()) {
                Some(503) => NodeBody::NoResponders,
                Some(_) => continue,
                None => NodeBody::Payload {
                    from_reply: message.reply.map(|reply| reply.to_string()).unwrap_or_default(),
                    bytes: message.payload,
                },
            };
            return NodeDelivery { tag, body };
        }
    }
}
