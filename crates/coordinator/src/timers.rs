//! Timers of calls: one NATS schedule per deadline, set before the call that it is for is committed. What fires is stored in the
//! same stream and reaches the followers; a stale one finds nothing to do. Each has subjects of its own, so that none ever takes
//! the place of another, whoever sets them and however late.

use std::time::Duration;

use bus::{Append, schedule_append};
use cluster::subject::escape_token;
use domain::call::{Call, CallId};

/// A fired timer that nobody took for so long has been overtaken by a sweep.
const FIRED_TTL: Duration = Duration::from_secs(24 * 3600);

/// Subjects of the calls' bucket besides its keys.
pub fn subjects(app: &str) -> [String; 2] {
    let app = escape_token(app);
    [format!("tl.{app}.timer.>"), format!("tl.{app}.due.>")]
}

/// Where fired timers arrive.
pub fn due_filter(app: &str) -> String {
    format!("tl.{}.due.>", escape_token(app))
}

/// Looks at the call again at this time.
pub fn schedule(app: &str, call: &CallId, at_ms: u64) -> Append {
    let app = escape_token(app);
    let payload = at_ms.to_string().into();
    schedule_append(
        &format!("tl.{app}.timer.{call}.{at_ms}"),
        &format!("tl.{app}.due.{call}.{at_ms}"),
        at_ms,
        payload,
        Some(FIRED_TTL),
    )
}

/// A timer was set before its call was committed: one whose time had come by then may have fired, and found nothing to do. By the
/// server's clock, which fires timers and dates records; another server's, after an election, is not this far off.
const FIRED_BEFORE_MS: u64 = 5_000;

/// The timer that is to be set once more, now that this record is stored.
pub fn set_again(call: &Call, stored_ms: u64) -> Option<u64> {
    call.next_deadline_ms().filter(|at_ms| *at_ms <= stored_ms + FIRED_BEFORE_MS)
}

/// Whether this is the subject of a fired timer.
pub fn is_fired(app: &str, subject: &str) -> bool {
    subject.starts_with(&format!("tl.{}.due.", escape_token(app)))
}

/// The call and time of a fired timer.
pub fn fired(app: &str, subject: &str, payload: &[u8]) -> Option<(CallId, u64)> {
    let rest = subject.strip_prefix(&format!("tl.{}.due.", escape_token(app)))?;
    let call = CallId::new(rest.split('.').next()?)?;
    let at_ms = std::str::from_utf8(payload).ok()?.parse().ok()?;
    Some((call, at_ms))
}
