//! Messages between nodes.

mod support;

use std::time::Duration;

use bus::{BusError, NodeBody, NodeDelivery, NodeInbox};
use bytes::Bytes;
use support::{TempDir, connect, server};

async fn next(inbox: &mut NodeInbox) -> NodeDelivery {
    tokio::time::timeout(Duration::from_secs(10), inbox.next()).await.expect("the inbox is silent")
}

#[tokio::test]
async fn messages_carry_tags_and_missing_nodes_are_told() {
    let dir = TempDir::new("nodes");
    let child = server(&dir).await;
    let (a, b) = (connect(&child.url()).await, connect(&child.url()).await);
    let refused = a.send_node("b", 1, Bytes::new()).await;
    assert_eq!(refused, Err(BusError::NoInbox));
    let mut inbox_a = a.node_inbox("a").await.unwrap();
    a.send_node("b", 7, Bytes::from_static(b"early")).await.unwrap();
    assert_eq!(next(&mut inbox_a).await, NodeDelivery { tag: 7, body: NodeBody::NoResponders });
    let mut inbox_b = b.node_inbox("b").await.unwrap();
    // A subscription takes effect in the order of its connection.
    b.send_node("b", 0, Bytes::new()).await.unwrap();
    next(&mut inbox_b).await;
    a.send_node("b", 8, Bytes::from_static(b"question")).await.unwrap();
    let NodeDelivery { tag: 8, body: NodeBody::Payload { from_reply, bytes } } = next(&mut inbox_b).await
    else {
        panic!("no payload")
    };
    assert_eq!(bytes, "question");
    b.reply_node(&from_reply, Bytes::from_static(b"answer")).await.unwrap();
    let answer = NodeBody::Payload { from_reply: String::new(), bytes: Bytes::from_static(b"answer") };
    assert_eq!(next(&mut inbox_a).await, NodeDelivery { tag: 8, body: answer });
    child.stop().await;
}
