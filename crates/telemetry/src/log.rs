//! The process's log on standard error: text for people, or JSON lines.

use std::io::IsTerminal;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
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

/// How lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// As people read it in a terminal, JSON otherwise.
    #[default]
    Auto,
    Json,
    Text,
}

/// Sets up the log of this process, once.
pub fn init(filter: &str, format: LogFormat) -> Result<(), LogError> {
    let is_terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(parse(filter)?).with_writer(std::io::stderr);
    let is_text = format == LogFormat::Text || (format == LogFormat::Auto && is_terminal);
    let done = if is_text {
        builder.with_target(false).with_ansi(is_terminal).try_init()
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
