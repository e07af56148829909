//! How a command fails, and what the shell is told: 2 for mistakes in the configuration, 1 for anything else.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{Mistake, print_mistakes};

/// A command cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("the configuration has mistakes")]
    Configuration(Vec<Mistake>),
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Usage(String),
    #[error("cannot listen on {addr}: {source}")]
    Listen { addr: SocketAddr, source: std::io::Error },
    #[error("cannot use {path}: {source}")]
    DataDir { path: PathBuf, source: std::io::Error },
    #[error("the operating system refused a runtime or signal handler: {0}")]
    Runtime(std::io::Error),
    #[error(transparent)]
    Log(#[from] telemetry::log::LogError),
    #[error(transparent)]
    Nats(#[from] bus::child::ChildError),
    #[error(transparent)]
    Gateway(#[from] gateway::StartError),
    #[error(transparent)]
    Coordinator(#[from] coordinator::StartError),
    #[error("the call failed: {0}")]
    Call(String),
    #[error(transparent)]
    Token(#[from] jsonwebtoken::errors::Error),
}

impl Failure {
    /// Tells the operator on standard error.
    pub fn report(&self) -> ExitCode {
        match self {
            Self::Configuration(mistakes) => {
                print_mistakes(mistakes);
                ExitCode::from(2)
            }
            other => {
                eprintln!("trunkline: {other}");
                ExitCode::FAILURE
            }
        }
    }
}
