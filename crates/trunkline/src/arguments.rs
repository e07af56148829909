//! The command line. Secrets are never arguments: other users of the machine can read those.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use gateway::auth::Algorithm;

use crate::config::{Inputs, Loaded, Role, Setting, load};
use crate::failure::Failure;

/// The file that is read where no other is named.
const DEFAULT_FILE: &str = "trunkline.toml";

/// A horizontally scaled cluster of real-time gateways for Socket.IO clients.
#[derive(Debug, Parser)]
#[command(name = "trunkline", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Print what an application's clients say and hear, for machines.
    Contract(ContractArguments),
    /// Run one gateway node of a cluster.
    Gateway(ConfigArguments),
    /// Run one coordinator: presence and calls. Start at least two; each needs NATS only.
    Coordinator(ConfigArguments),
    /// Run two nodes, a coordinator and a private nats-server in one process, with a key and a token to try.
    Dev(DevArguments),
    /// Make and look at the tokens clients log in with.
    #[command(subcommand)]
    Token(TokenCommand),
    /// Tell an event to users, rooms, roles or everyone of a running cluster, through NATS.
    Emit(EmitArguments),
    /// Make any call of the server API, an application's own ones too, through NATS.
    Call(CallArguments),
    /// Print the configuration in effect, secrets redacted, and every mistake in it; status 2 if there are any.
    CheckConfig(ConfigArguments),
    /// Print every key of the configuration with its type, default and meaning, as a Markdown page.
    ConfigReference,
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Print a signed token.
    Mint(MintArguments),
    /// Print what a token says and whether it is believed.
    Inspect(InspectArguments),
    /// Refuse good tokens from now on, and cut off who is connected by them, on every node of a running cluster.
    Revoke(RevokeArguments),
    /// Take a revocation back.
    Restore(RestoreArguments),
}

/// Where the configuration comes from. `TRUNKLINE_<SECTION>__<KEY>` in the environment overrides the file, flags override both.
#[derive(Debug, Default, Args)]
pub struct ConfigArguments {
    /// The configuration file; without it `trunkline.toml` if there is one.
    #[arg(long, short, value_name = "FILE", env = "TRUNKLINE_CONFIG")]
    pub config: Option<PathBuf>,
    /// Set a key, like `limits.max_payload_bytes=100000` or `app.visits.path=/io/`.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Addresses of the NATS servers.
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub nats: Vec<String>,
    /// Addresses for clients.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    pub listen: Vec<String>,
    /// The address of metrics and health.
    #[arg(long, value_name = "ADDRESS")]
    pub admin: Option<String>,
    /// The log filter, like `info` or `info,gateway=debug`.
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,
}

#[derive(Debug, Args)]
pub struct DevArguments {
    #[command(flatten)]
    pub config: ConfigArguments,
    /// Where the nats-server's store and the development key are kept.
    #[arg(long, value_name = "DIRECTORY", default_value = ".trunkline")]
    pub data_dir: PathBuf,
}

#[derive(Debug, Args)]
pub struct EmitArguments {
    #[command(flatten)]
    pub config: ConfigArguments,
    /// The application; needed unless the configuration has only one.
    #[arg(long)]
    pub app: Option<String>,
    /// The devices of this user; may be given several times, as the other audiences: one copy per socket.
    #[arg(long, value_name = "ID")]
    pub to_user: Vec<String>,
    /// The members of this room.
    #[arg(long, value_name = "ROOM")]
    pub to_room: Vec<String>,
    /// Everybody with this role.
    #[arg(long, value_name = "ROLE")]
    pub to_role: Vec<String>,
    /// Everybody.
    #[arg(long)]
    pub everyone: bool,
    /// Leave this socket out.
    #[arg(long, value_name = "SOCKET")]
    pub except: Vec<String>,
    /// Straight through, stored nowhere.
    #[arg(long)]
    pub volatile: bool,
    /// Repeats with the same key tell it once.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// The event's name.
    pub event: String,
    /// Its arguments: JSON, or text if it is not.
    pub data: Vec<String>,
}

#[derive(Debug, Args)]
pub struct CallArguments {
    #[command(flatten)]
    pub config: ConfigArguments,
    /// The application; needed unless the configuration has only one.
    #[arg(long)]
    pub app: Option<String>,
    /// Repeats with the same key are done once.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// The call's name, like `new-message`.
    pub call: String,
    /// Its body, a JSON object; `-`: from standard input. Nothing: an empty one.
    pub body: Option<String>,
}

#[derive(Debug, Args)]
pub struct MintArguments {
    #[command(flatten)]
    pub config: ConfigArguments,
    /// The application whose key signs and whose claim names are used; needed where there are several.
    #[arg(long)]
    pub app: Option<String>,
    /// Sign with the key in this file instead of the configuration's.
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    #[arg(long, value_name = "ID")]
    pub user: String,
    #[arg(long)]
    pub role: Option<String>,
    #[arg(long)]
    pub name: Option<String>,
    /// A further claim; the value is JSON, or text if it is not.
    #[arg(long = "claim", value_name = "NAME=JSON")]
    pub claims: Vec<String>,
    /// Lifetime: a number with s, m, h or d; `never` for a token that does not expire.
    #[arg(long, default_value = "1h")]
    pub ttl: String,
    /// HS256, HS384 or HS512; without it the first of these that the application accepts.
    #[arg(long)]
    pub algorithm: Option<Algorithm>,
}

#[derive(Debug, Args)]
pub struct InspectArguments {
    #[command(flatten)]
    pub config: ConfigArguments,
    /// Verify with the HMAC key in this file instead of the configuration's keys.
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// The token; without it, it is read from standard input.
    pub token: Option<String>,
}

/// Whose tokens.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Whose {
    /// Every token of this user.
    #[arg(long, value_name = "ID")]
    pub user: Option<String>,
    /// The token with this `jti`.
    #[arg(long, value_name = "JTI")]
    pub token_id: Option<String>,
}

#[derive(Debug, Args)]
pub struct RevokeArguments {
    #[command(flatten)]
    pub config: ConfigArguments,
    /// The application; needed unless the configuration has only one.
    #[arg(long)]
    pub app: Option<String>,
    #[command(flatten)]
    pub whose: Whose,
    /// Only the user's tokens issued up to then, and those that do not say when: seconds since the Unix epoch, or `now`.
    #[arg(long, value_name = "TIME", conflicts_with = "token_id")]
    pub issued_until: Option<String>,
    /// When the entry may go, as long from now as such tokens are valid: a number with s, m, h or d; or `never`.
    #[arg(long = "for", value_name = "DURATION", default_value = "never")]
    pub kept: String,
}

#[derive(Debug, Args)]
pub struct RestoreArguments {
    #[command(flatten)]
    pub config: ConfigArguments,
    /// The application; needed unless the configuration has only one.
    #[arg(long)]
    pub app: Option<String>,
    #[command(flatten)]
    pub whose: Whose,
}

#[derive(Debug, Args)]
pub struct ContractArguments {
    pub format: ContractFormat,
    /// portal, messenger, clinic, diet or telehealth.
    #[arg(long, value_parser = dialect)]
    pub dialect: &'static dialects::Contract,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum ContractFormat {
    /// An AsyncAPI 3 document, as JSON.
    Asyncapi,
    /// Event maps for the typed sockets of socket.io-client.
    Typescript,
}

fn dialect(name: &str) -> Result<&'static dialects::Contract, String> {
    dialects::contract(name).ok_or_else(|| "there is no such dialect with a contract".to_owned())
}

impl ConfigArguments {
    /// The configuration and its mistakes.
    ///
    /// # Errors
    /// A file that cannot be read, or a `--set` without `=`.
    pub fn load(&self) -> Result<Loaded, Failure> {
        Ok(load(&self.inputs()?))
    }

    /// The configuration, if it has no mistakes that concern this role.
    pub fn load_valid(&self, role: Role) -> Result<crate::config::Config, Failure> {
        let loaded = load(&Inputs { role, ..self.inputs()? });
        if loaded.mistakes.is_empty() {
            Ok(loaded.config)
        } else {
            Err(Failure::Configuration(loaded.mistakes))
        }
    }

    /// Whether any of these arguments, or the file's presence, names a configuration.
    pub fn is_given(&self) -> bool {
        self.file().is_some() || !self.set.is_empty()
    }

    /// What the configuration is made from.
    pub fn inputs(&self) -> Result<Inputs, Failure> {
        let file = match self.file() {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(&path);
                let text = text.map_err(|source| Failure::Read { path: path.clone(), source })?;
                Some((path.display().to_string(), text))
            }
        };
        // A variable that is no Unicode can be none of ours.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Ok(Inputs { file, environment: environment.collect(), flags: self.settings()?, role: Role::Gateway })
    }

    fn file(&self) -> Option<PathBuf> {
        let default = || Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists());
        self.config.clone().or_else(default)
    }

    fn settings(&self) -> Result<Vec<Setting>, Failure> {
        let mut settings = Vec::new();
        for text in &self.set {
            let (path, value) = text
                .split_once('=')
                .ok_or_else(|| Failure::Usage(format!("--set {text}: write key=value")))?;
            settings.push(Setting {
                flag: "--set".to_owned(),
                path: path.trim().to_owned(),
                value: value.trim().to_owned(),
            });
        }
        let one = |value: &Option<String>| value.clone().unwrap_or_default();
        let shorthands = [
            ("--nats", "nats.servers", self.nats.join(",")),
            ("--listen", "http.listen", self.listen.join(",")),
            ("--admin", "http.admin", one(&self.admin)),
            ("--log", "log", one(&self.log)),
        ];
        for (flag, path, value) in shorthands.into_iter().filter(|(_, _, value)| !value.is_empty()) {
            settings.push(Setting { flag: flag.to_owned(), path: path.to_owned(), value });
        }
        Ok(settings)
    }
}
