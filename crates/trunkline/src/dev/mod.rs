//! `trunkline dev`: everything in one process, for somebody who wants to see it work. Two gateway nodes on neighbouring
//! ports and a coordinator share a private nats-server; a key of its own is kept in the data directory; a ready token and a line to try are printed.

mod data_dir;
mod welcome;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::ExitCode;

use bus::child::{ChildOptions, NatsChild};
use gateway::config::{ApiKeyConfig, Scope};

use crate::arguments::DevArguments;
use crate::config::{Config, Inputs, load};
use crate::failure::Failure;
use crate::node::Node;
use crate::replica::Replica;
use crate::signals::Signals;
use data_dir::DataDir;
use welcome::welcome;

/// What is served without a configuration file.
const DEFAULT_CONFIG: &str = include_str!("../../../../deploy/five-applications.toml");

/// Two show that no node is special.
const NODES: u16 = 2;

/// A developer who stops the process does not want to wait.
const DRAIN_S: u64 = 2;

/// Serves until a signal, then drains the nodes and stops the nats-server.
pub fn run(arguments: &DevArguments) -> Result<ExitCode, Failure> {
    if !arguments.config.nats.is_empty() {
        return Err(Failure::Usage(
            "dev runs a nats-server of its own: use `trunkline gateway` with --nats".to_owned(),
        ));
    }
    let data_dir = DataDir::open(&arguments.data_dir)?;
    let config = configuration(arguments, &data_dir)?;
    telemetry::log::init(&config.log, config.log_format)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
    runtime.block_on(serve(config, &data_dir))?;
    Ok(ExitCode::SUCCESS)
}

/// The given configuration, or the built-in one, with the development key where an application has none.
fn configuration(arguments: &DevArguments, data_dir: &DataDir) -> Result<Config, Failure> {
    let mut inputs: Inputs = arguments.config.inputs()?;
    inputs.file.get_or_insert_with(|| ("the built-in configuration".to_owned(), DEFAULT_CONFIG.to_owned()));
    if !inputs.environment.iter().any(|(name, value)| name == "JWT_SECRET" && !value.is_empty()) {
        inputs.environment.push(("JWT_SECRET".to_owned(), data_dir.key()?));
    }
    let mut loaded = load(&inputs);
    if !loaded.mistakes.is_empty() {
        return Err(Failure::Configuration(loaded.mistakes));
    }
    if loaded.config.api.keys.is_empty() {
        loaded.config.api.keys.push(api_key(data_dir)?);
    }
    Ok(loaded.config)
}

/// A back end's key for everything, for a configuration that has none.
fn api_key(data_dir: &DataDir) -> Result<ApiKeyConfig, Failure> {
    Ok(ApiKeyConfig {
        name: "dev".to_owned(),
        secret_file: Some(data_dir.api_key_file()?),
        scopes: vec![Scope::Emit, Scope::Post, Scope::Notify, Scope::Admin, Scope::Read],
        ..ApiKeyConfig::default()
    })
}

async fn serve(mut config: Config, data_dir: &DataDir) -> Result<(), Failure> {
    let mut signals = Signals::listen().map_err(Failure::Runtime)?;
    let nats = tokio::select! {
        nats = NatsChild::start(ChildOptions::new(data_dir.nats())) => nats?,
        _ = signals.next() => return Ok(()),
    };
    config.nats.servers = vec![nats.url()];
    let started = tokio::select! {
        cluster = Cluster::start(&config) => cluster.map(Some),
        _ = signals.next() => Ok(None),
    };
    let cluster = match started {
        Ok(cluster) => cluster,
        Err(failure) => {
            nats.stop().await;
            return Err(failure);
        }
    };
    if let Some(cluster) = &cluster {
        println!("{}", welcome(&config, &cluster.nodes, &nats.url(), data_dir)?);
        signals.next().await;
    }
    signals.or_exit(stop(cluster, nats)).await;
    Ok(())
}

struct Cluster {
    nodes: Vec<Node>,
    replica: Replica,
}

impl Cluster {
    async fn start(config: &Config) -> Result<Self, Failure> {
        let nodes = start_nodes(config).await?;
        let replica = Replica::start(config, config.coordinator.admin).await?;
        Ok(Self { nodes, replica })
    }
}

async fn start_nodes(config: &Config) -> Result<Vec<Node>, Failure> {
    let mut nodes = Vec::new();
    let step = step(config);
    for index in 0..NODES {
        nodes.push(Node::start(&of_node(config, index, step), false).await?);
    }
    Ok(nodes)
}

/// How far the second node's ports are from the first's: as near as no port is wanted twice.
fn step(config: &Config) -> u16 {
    let mut of_nodes = config.clone();
    let ports: BTreeSet<u16> =
        addresses(&mut of_nodes).map(|addr| addr.port()).filter(|port| *port != 0).collect();
    let coordinator = config.coordinator.admin.map(|addr| addr.port());
    let is_taken = |port| ports.contains(&port) || coordinator == Some(port);
    let is_free = |step: &u16| !ports.iter().any(|port| is_taken(port.saturating_add(*step)));
    (1..1000).find(is_free).unwrap_or(1)
}

fn addresses(config: &mut Config) -> impl Iterator<Item = &mut SocketAddr> {
    let http = config.http.listen.iter_mut().chain(&mut config.http.admin);
    http.chain(&mut config.api.listen).chain(config.app.iter_mut().flat_map(|app| &mut app.listen))
}

/// The configuration of one node: every port moved by so many steps, so that the second is found near the first.
fn of_node(config: &Config, index: u16, step: u16) -> Config {
    let mut config = config.clone();
    for addr in addresses(&mut config).filter(|addr| addr.port() != 0) {
        addr.set_port(addr.port().saturating_add(index * step));
    }
    let name = config.node.name.as_deref().unwrap_or("dev");
    config.node.name = Some(format!("{name}-{}", index + 1));
    // Two nodes share the machine; without this each would take every core.
    config.node.shards = config.node.shards.max(1);
    config.node.drain_s = config.node.drain_s.min(DRAIN_S);
    config
}

/// One after the other, so that the first node's clients find the second.
async fn stop(cluster: Option<Cluster>, nats: NatsChild) {
    if let Some(Cluster { nodes, replica }) = cluster {
        for node in nodes {
            node.drain().await;
        }
        replica.drain().await;
    }
    nats.stop().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Role;

    fn loaded(file: &str) -> Config {
        let inputs = Inputs {
            file: Some(("test".to_owned(), file.to_owned())),
            environment: vec![("JWT_SECRET".to_owned(), "a key that is long enough for a test".to_owned())],
            flags: Vec::new(),
            role: Role::Gateway,
        };
        let loaded = load(&inputs);
        assert!(loaded.mistakes.is_empty(), "{:?}", loaded.mistakes);
        loaded.config
    }

    #[test]
    fn the_built_in_configuration_serves_all_five_on_two_nodes() {
        let config = loaded(DEFAULT_CONFIG);
        let names: Vec<_> = config.app.iter().map(|app| app.name.as_str()).collect();
        assert_eq!(names, ["portal", "messenger", "clinic", "diet", "telehealth"]);
        let ports = |index| {
            let mut config = of_node(&config, index, step(&config));
            addresses(&mut config).map(|addr| addr.port()).collect::<BTreeSet<_>>()
        };
        assert!(ports(0).is_superset(&BTreeSet::from([3000, 3001, 4000, 8080])));
        assert!(ports(0).is_disjoint(&ports(1)));
    }

    #[test]
    fn the_second_node_is_next_to_the_first_where_there_is_room() {
        assert_eq!(step(&loaded("[[app]]\nname = \"a\"\ndialect = \"telehealth\"\n")), 1);
    }
}
