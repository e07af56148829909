//! Signatures, being replaced by the implementation.
use crate::*;
use bytes::Bytes;
use std::time::{Duration, Instant};
#[derive(Debug, Clone)]
pub struct Bus {}
#[derive(Debug)]
pub struct Feed {}
#[derive(Debug)]
pub struct NodeInbox {}
#[derive(Debug)]
pub struct KvWatch {}
impl Feed {
    pub async fn next_batch(&mut self, _out: &mut Vec<FeedEvent>) {
        unimplemented!()
    }
}
impl NodeInbox {
    pub async fn next(&mut self) -> NodeDelivery {
        unimplemented!()
    }
}
impl KvWatch {
    pub async fn next(&mut self) -> WatchEvent {
        unimplemented!()
    }
}
impl Bus {
    pub async fn connect(_config: BusConfig, _registry: &prometheus::Registry) -> Result<Bus, ConnectError> {
        unimplemented!()
    }
    pub fn server_info(&self) -> ServerInfo {
        unimplemented!()
    }
    pub fn is_connected(&self) -> bool {
        unimplemented!()
    }
    pub async fn ensure_stream(&self, _spec: &StreamSpec) -> Result<StreamState, BusError> {
        unimplemented!()
    }
    pub async fn stream_state(&self, _stream: &str) -> Result<StreamState, BusError> {
        unimplemented!()
    }
    /// Queued at the call (order of calls is order on the wire); the future is only the ack.
    pub fn append(
        &self,
        _message: Append,
        _deadline: Instant,
    ) -> impl Future<Output = Result<u64, AppendError>> + Send + 'static {
        async { unimplemented!() }
    }
    pub fn append_batch(
        &self,
        _messages: Vec<Append>,
        _deadline: Instant,
    ) -> impl Future<Output = Result<u64, AppendError>> + Send + 'static {
        async { unimplemented!() }
    }
    pub fn barrier(
        &self,
        _marker: Append,
        _deadline: Instant,
    ) -> impl Future<Output = Result<u64, AppendError>> + Send + 'static {
        async { unimplemented!() }
    }
    pub async fn echo(&self, _expected: usize, _deadline: Instant) -> usize {
        unimplemented!()
    }
    pub fn publish(&self, _subject: &str, _payload: impl AsRef<[u8]>) -> Result<(), PublishError> {
        unimplemented!()
    }
    /// `None`: taken already.
    pub fn feed(&self) -> Option<Feed> {
        unimplemented!()
    }
    pub fn subscribe(&self, _subject: &str) -> Result<SubId, BusError> {
        unimplemented!()
    }
    pub fn unsubscribe(&self, _sub: SubId) {
        unimplemented!()
    }
    pub async fn node_inbox(&self, _me: &str) -> Result<NodeInbox, BusError> {
        unimplemented!()
    }
    pub async fn send_node(&self, _to: &str, _tag: u64, _payload: Bytes) -> Result<(), BusError> {
        unimplemented!()
    }
    pub async fn reply_node(&self, _from_reply: &str, _payload: Bytes) -> Result<(), BusError> {
        unimplemented!()
    }
    pub async fn read_last(
        &self,
        _stream: &str,
        _subjects: &[String],
        _options: ReadOptions,
    ) -> Result<Vec<Stored>, ReadError> {
        unimplemented!()
    }
    pub async fn read_from(
        &self,
        _stream: &str,
        _filter: &str,
        _start_seq: u64,
        _limit: usize,
    ) -> Result<Vec<Stored>, ReadError> {
        unimplemented!()
    }
    pub async fn get_last(&self, _stream: &str, _subject: &str) -> Result<Option<Stored>, ReadError> {
        unimplemented!()
    }
    pub async fn ensure_bucket(&self, _spec: &BucketSpec) -> Result<StreamState, BusError> {
        unimplemented!()
    }
    pub async fn kv_put(
        &self,
        _bucket: &str,
        _key: &str,
        _value: Bytes,
        _ttl: Option<Duration>,
        _expect: Option<u64>,
    ) -> Result<u64, AppendError> {
        unimplemented!()
    }
    pub async fn kv_create(
        &self,
        _bucket: &str,
        _key: &str,
        _value: Bytes,
        _ttl: Option<Duration>,
    ) -> Result<u64, AppendError> {
        unimplemented!()
    }
    pub async fn kv_delete(
        &self,
        _bucket: &str,
        _key: &str,
        _expect: Option<u64>,
    ) -> Result<u64, AppendError> {
        unimplemented!()
    }
    pub async fn kv_get(&self, _bucket: &str, _key: &str) -> Result<Option<KvEntry>, ReadError> {
        unimplemented!()
    }
    pub async fn kv_list(&self, _bucket: &str, _filter: &str) -> Result<Vec<KvEntry>, ReadError> {
        unimplemented!()
    }
    pub fn kv_watch(&self, _bucket: &str, _filter: &str, _relist: Duration) -> KvWatch {
        unimplemented!()
    }
}
