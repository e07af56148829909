//! The `trunkline` binary: subcommands, configuration, wiring, signals. Owns no protocol and no decision: each part builds itself.

mod admin;
mod api_client;
mod arguments;
mod call_command;
mod check_config;
mod config;
mod coordinator_command;
mod dev;
mod emit_command;
mod failure;
mod gateway_command;
mod node;
mod reference;
mod replica;
mod schema;
mod signals;
mod token;
mod traces;

use std::process::ExitCode;

use arguments::{Arguments, Command, TokenCommand};
use clap::Parser;

/// The C library's took a quarter of a coordinator's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Gateway(config) => gateway_command::run(&config),
        Command::Coordinator(config) => coordinator_command::run(&config),
        Command::Dev(dev) => dev::run(&dev),
        Command::Emit(emit) => emit_command::run(&emit),
        Command::Call(call) => call_command::run(&call),
        Command::Contract(contract) => Ok(schema::run(&contract)),
        Command::CheckConfig(config) => check_config::run(&config),
        Command::ConfigReference => Ok(reference::run()),
        Command::Token(TokenCommand::Mint(mint)) => token::mint::run(&mint),
        Command::Token(TokenCommand::Inspect(inspect)) => token::inspect::run(&inspect),
        Command::Token(TokenCommand::Revoke(revoke)) => token::revoke::revoke(&revoke),
        Command::Token(TokenCommand::Restore(restore)) => token::revoke::restore(&restore),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}
