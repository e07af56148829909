//! Timers of calls: one NATS schedule per call, committed with it. What fires is stored in the same stream and reaches the
//! followers; a stale one finds nothing to do.

use std::time::Duration;

use bus::{Append, schedule_append};
use cluster::subject::escape_token;
use domain::call::CallId;

/// A fired timer that nobody took for so long has been overtaken by a sweep.
const FIRED_TTL: Duration = Duration::from_secs(24 * 3600);

/// Subjects of the calls' bucket besides its keys.
pub fn subjects(app: &str) -> [String; 2] {
    let app = escape_token(app);
    [format!("tl.{app}.timer.>"), format!("tl.{app}.due.>")]
}

/// Where fired timers arrive.
pub fn due_filter(app: &str) -> String {
    format!("tl.{}.due.*", escape_token(app))
}

/// Looks at the call again at this time, instead of at an earlier set one.
pub fn schedule(app: &str, call: &CallId, at_ms: u64) -> Append {
    let app = escape_token(app);
    let payload = at_ms.to_string().into();
    schedule_append(
        &format!("tl.{app}.timer.{call}"),
        &format!("tl.{app}.due.{call}"),
        at_ms,
        payload,
        Some(FIRED_TTL),
    )
}

/// The call and time of a fired timer.
pub fn fired(app: &str, subject: &str, payload: &[u8]) -> Option<(CallId, u64)> {
    let call = CallId::new(subject.strip_prefix(&format!("tl.{}.due.", escape_token(app)))?)?;
    let at_ms = std::str::from_utf8(payload).ok()?.parse().ok()?;
    Some((call, at_ms))
}
