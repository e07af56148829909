//! Ports for servers that must be told theirs before they start, and take the same ones again after a crash.

use std::net::TcpListener;

/// Below the ports that systems hand out to outgoing connections (32768 on Linux, 49152 elsewhere): nobody's connection is on one of
/// these while a killed member waits for its restart.
const FIRST: u16 = 20_000;
const LAST: u16 = 31_999;

/// Hands out each port once.
#[derive(Debug)]
pub struct Ports {
    next: u16,
    left: u16,
}

#[derive(Debug, thiserror::Error)]
#[error("no free port between {FIRST} and {LAST}")]
pub struct NoPort;

impl Ports {
    /// `start` picks where the search begins, so that clusters that start together look at different ports.
    pub fn from(start: u16) -> Self {
        Self { next: FIRST + start % (LAST - FIRST), left: LAST - FIRST }
    }

    /// The next port of loopback that nobody listens on.
    ///
    /// # Errors
    /// After all were looked at.
    pub fn take(&mut self) -> Result<u16, NoPort> {
        while self.left > 0 {
            let port = self.next;
            self.left -= 1;
            self.next = if port == LAST { FIRST } else { port + 1 };
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return Ok(port);
            }
        }
        Err(NoPort)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_handed_out_twice_or_taken_from_others() {
        let mut ports = Ports::from(11_990);
        let first = ports.take().unwrap();
        let listener = TcpListener::bind(("127.0.0.1", first + 1));
        let others: Vec<u16> = (0..20).map(|_| ports.take().unwrap()).collect();
        assert!(!others.contains(&first));
        assert!(listener.is_err() || !others.contains(&(first + 1)));
        assert!(others.iter().all(|port| (FIRST..=LAST).contains(port)), "{others:?}");
    }
}
