//! One call of the server API over NATS, for the command line.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bus::{Bus, RequestError};
use serde_json::Value;
use telemetry::Metrics;

use crate::config::Config;
use crate::failure::Failure;

/// Longer than any node takes over a call.
const PATIENCE: Duration = Duration::from_secs(30);

/// Prints the answer; a refused call is a failure. `name`: a call's, which is one token of a subject.
pub fn call(config: &Config, app: Option<&str>, name: &str, body: &Value) -> Result<ExitCode, Failure> {
    let subject = format!("tl.api.{}.{name}", app_name(config, app)?);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
    let answer = runtime.block_on(ask(config, &subject, body.to_string().as_bytes()))?;
    let answer: Value = serde_json::from_slice(&answer)
        .map_err(|error| Failure::Call(format!("the answer is no JSON: {error}")))?;
    if answer["ok"] == true {
        println!("{answer}");
        return Ok(ExitCode::SUCCESS);
    }
    let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    Err(Failure::Call(format!("{} ({})", text("message"), text("code"))))
}

async fn ask(config: &Config, subject: &str, body: &[u8]) -> Result<bytes::Bytes, Failure> {
    let bus = Bus::connect(config.nats.bus(), Metrics::new().registry()).await;
    let bus = bus.map_err(|error| Failure::Call(error.to_string()))?;
    let answer = bus.request(subject, body, Instant::now() + PATIENCE).await;
    answer.map_err(|error| {
        Failure::Call(match error {
            RequestError::NoResponders => "no gateway serves this application's API".to_owned(),
            other => other.to_string(),
        })
    })
}

fn app_name<'a>(config: &'a Config, name: Option<&'a str>) -> Result<&'a str, Failure> {
    let names = || config.app.iter().map(|app| app.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, &config.app[..]) {
        // The cluster may have applications that this configuration does not speak of.
        (Some(name), _) if is_token(name) => Ok(name),
        (Some(name), _) => Err(Failure::Usage(format!("`{name}` is no application's name"))),
        (None, [only]) => Ok(&only.name),
        (None, _) => Err(Failure::Usage(format!("give --app, one of {}", names()))),
    }
}

/// Whether it may stand in a subject.
pub fn is_token(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || ".*>".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_is_named_or_the_only_one() {
        let config = Config {
            app: vec![gateway::config::AppConfig { name: "one".into(), ..Default::default() }],
            ..Config::default()
        };
        assert_eq!(app_name(&config, None).unwrap(), "one");
        assert_eq!(app_name(&config, Some("other")).unwrap(), "other");
        assert!(app_name(&config, Some("a.b")).is_err());
        assert!(app_name(&Config::default(), None).is_err());
    }
}
