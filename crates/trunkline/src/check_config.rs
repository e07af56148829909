//! `trunkline check-config`: what a node would run with, and why it would not.

use std::process::ExitCode;

use crate::arguments::ConfigArguments;
use crate::config::print_mistakes;
use crate::failure::Failure;

/// Prints the effective configuration as TOML on standard output, the mistakes on standard error.
pub fn run(arguments: &ConfigArguments) -> Result<ExitCode, Failure> {
    let loaded = arguments.load()?;
    let text = toml::to_string(&loaded.config).expect("every configuration type is made of TOML's own kinds");
    print!("{text}");
    if loaded.mistakes.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    print_mistakes(&loaded.mistakes);
    Ok(ExitCode::from(2))
}
