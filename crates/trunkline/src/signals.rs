//! When the process shall end: the first SIGTERM or SIGINT asks for a drain, the second ends it at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The status of a process that ended on a second signal, as shells count SIGINT.
const INTERRUPTED: i32 = 130;

/// Listens for both signals from its creation on.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Within a runtime; from here on neither signal ends the process by itself.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Returns at the next signal, with its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Runs `drain` to its end; a further signal ends the process at once.
    pub async fn or_exit(&mut self, drain: impl Future<Output = ()>) {
        tokio::select! {
            () = drain => {}
            name = self.next() => {
                tracing::warn!(signal = name, "a second signal: not waiting for the drain");
                std::process::exit(INTERRUPTED);
            }
        }
    }
}
