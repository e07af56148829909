//! Waiting for NATS servers that cannot say yet. In a young cluster, or after the loss of a server, a stream or consumer without a leader does
//! not answer at all; whoever starts then would give up for nothing.

use std::time::{Duration, Instant};

use crate::error::BusError;

/// A cluster of servers that elects a leader, or does not know all of its servers yet.
const NOT_YET: [u32; 2] = [10008, 10005];

/// How long servers may be without a leader, and how long until they are asked again.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(250);

/// Repeats `attempt` for half a minute while it fails for want of an answer. What is refused for good is said at once.
pub(crate) async fn patiently<T, F>(what: &str, mut attempt: impl FnMut() -> F) -> Result<T, BusError>
where
    F: Future<Output = Result<T, BusError>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Err(error) if is_passing(&error) && Instant::now() < deadline => {
                tracing::warn!(name = what, %error, "NATS cannot make or check this yet: asking again");
                tokio::time::sleep(PAUSE).await;
            }
            done => return done,
        }
    }
}

fn is_passing(error: &BusError) -> bool {
    match error {
        BusError::Unavailable { .. } => true,
        BusError::Refused { code, .. } => NOT_YET.contains(code),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: u32) -> BusError {
        BusError::Refused { operation: "x".to_owned(), code, description: String::new() }
    }

    #[tokio::test]
    async fn only_what_may_pass_is_asked_again() {
        let mut answers =
            vec![Ok(()), Err(refused(NOT_YET[0])), Err(BusError::Unavailable { operation: "x".to_owned() })];
        let asked = patiently("x", || std::future::ready(answers.pop().expect("asked no more than needed")));
        assert_eq!(asked.await, Ok(()));
        let mut tries = 0;
        let asked = patiently::<(), _>("x", || {
            tries += 1;
            std::future::ready(Err(BusError::NoJetStream))
        });
        assert_eq!(asked.await, Err(BusError::NoJetStream));
        assert_eq!(tries, 1);
    }
}
