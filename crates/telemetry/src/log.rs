//! The process's log on standard error: for people in a terminal, JSON lines otherwise.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("`{filter}` is no log filter: {reason}; write a level like `info`, or `info,gateway=debug`")]
    Filter { filter: String, reason: String },
    #[error("the log is already set up")]
    Twice,
}

/// Whether `filter` (a level, or `level,module=level`) is one.
pub fn check(filter: &str) -> Result<(), LogError> {
    parse(filter).map(drop)
}

/// Sets up the log of this process, once.
pub fn init(filter: &str) -> Result<(), LogError> {
    let builder = tracing_subscriber::fmt().with_env_filter(parse(filter)?).with_writer(std::io::stderr);
    let done = if std::io::stderr().is_terminal() {
        builder.with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
    };
    done.map_err(|_| LogError::Twice)
}

/// Libraries whose details drown ours. A filter that names them counts, since it stands behind.
const QUIET: &str = "async_nats=warn,hyper=info,tungstenite=info";

fn parse(filter: &str) -> Result<EnvFilter, LogError> {
    let parsed = EnvFilter::builder().parse(format!("{QUIET},{filter}"));
    parsed.map_err(|error| LogError::Filter { filter: filter.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    #[test]
    fn filters_are_checked() {
        for good in ["info", "warn,gateway=debug", "off"] {
            assert!(super::check(good).is_ok(), "{good}");
        }
        for bad in ["gateway=loud", "info,,x=y=z"] {
            assert!(super::check(bad).is_err(), "{bad}");
        }
    }
}
