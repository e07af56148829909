//! Who is in the cluster, with which addresses: worked out once, so that a member that is started again is the same one.

use std::ffi::OsStr;
use std::fmt::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use super::directory::Directory;
use super::ports::Ports;
use super::process::{Kind, Probe, Program};
use super::served::Served;
use super::{ClusterError, Options};

/// The least that survives the loss of one: of servers with three copies of everything, of gateways while a second one leaves, and of coordinators.
const NATS: usize = 3;
const GATEWAYS: usize = 3;
const COORDINATORS: usize = 2;

/// Who tries failure does not want to wait half a minute for a drain.
const DRAIN_S: u64 = 5;

/// An address of the balancer and whom it stands for.
#[derive(Debug)]
pub struct Frontend {
    /// The applications, or `api`.
    pub names: Vec<String>,
    pub addr: SocketAddr,
    /// The same at each gateway.
    backends: Vec<SocketAddr>,
    /// As the configuration has it.
    configured: SocketAddr,
}

/// The members in stages: those of one stage start together, when all before them serve.
#[derive(Debug)]
pub struct Plan {
    pub stages: Vec<Vec<Program>>,
    pub frontends: Vec<Frontend>,
}

/// What all members are made from.
struct Maker<'a> {
    options: &'a Options,
    served: &'a Served,
    directory: &'a Directory,
    ports: Ports,
    /// Key of the tokens.
    key: &'a str,
    /// Key of the server API, where the configuration has none.
    api_key_file: Option<PathBuf>,
    servers: String,
}

impl Plan {
    /// # Errors
    /// No free ports, or a directory that cannot be written.
    pub fn make(
        options: &Options,
        served: &Served,
        directory: &Directory,
        key: &str,
    ) -> Result<Self, ClusterError> {
        let api_key_file =
            if served.api.keys.is_empty() { Some(directory.key_file("api-key")?) } else { None };
        let ports = Ports::from(rand::random());
        let mut maker =
            Maker { options, served, directory, ports, key, api_key_file, servers: String::new() };
        let nats = maker.nats()?;
        let frontends = maker.frontends()?;
        let mut gateways = maker.gateways(&frontends)?;
        let checks: Vec<SocketAddr> = gateways.iter().map(|gateway| gateway.probe.addr()).collect();
        // The first creates the streams.
        let mut others = gateways.split_off(1);
        if served.has_coordinators() {
            others.extend(maker.coordinators()?);
        }
        let balancer = maker.balancer(&frontends, &checks)?;
        Ok(Self { stages: vec![nats, gateways, others, vec![balancer]], frontends })
    }
}

impl Maker<'_> {
    fn addr(&mut self) -> Result<SocketAddr, ClusterError> {
        Ok(SocketAddr::from(([127, 0, 0, 1], self.ports.take()?)))
    }

    fn nats(&mut self) -> Result<Vec<Program>, ClusterError> {
        let mut addrs = Vec::new();
        for _ in 0..NATS {
            addrs.push([self.addr()?, self.addr()?, self.addr()?]);
        }
        let list = |index: usize| {
            addrs.iter().map(|of| format!("nats://{}", of[index])).collect::<Vec<_>>().join(",")
        };
        self.servers = list(0);
        let routes = list(2);
        let program = |(index, [client, monitor, route]): (usize, &[SocketAddr; 3])| {
            let name = format!("nats-{}", index + 1);
            let store = self.directory.path(&name).display().to_string();
            let config = format!(
                "server_name: {name}\nlisten: \"{client}\"\nhttp: \"{monitor}\"\nmax_payload: 4MB\njetstream {{ store_dir: {store:?} }}\n\
                 cluster {{ name: trunkline, listen: \"{route}\", routes: [{routes}] }}\n"
            );
            let file = self.directory.write(&format!("{name}.conf"), &config)?;
            Ok(Program {
                kind: Kind::Nats,
                binary: self.options.nats_server.clone(),
                args: vec!["-c".to_owned(), file.display().to_string()],
                env: Vec::new(),
                probe: Probe::Http { addr: *monitor, path: "/healthz" },
                address: format!("nats://{client}"),
                reads_stdin: false,
                name,
            })
        };
        addrs.iter().enumerate().map(program).collect()
    }

    /// The addresses of the configuration are the balancer's; each gateway gets others.
    fn frontends(&mut self) -> Result<Vec<Frontend>, ClusterError> {
        let mut wanted: Vec<(SocketAddr, Vec<String>)> = Vec::new();
        for (addr, names) in self.served.client_addrs() {
            wanted.push((addr, names.into_iter().map(str::to_owned).collect()));
        }
        wanted.extend(self.served.api.listen.iter().map(|addr| (*addr, vec!["api".to_owned()])));
        let mut frontends = Vec::new();
        for (configured, names) in wanted {
            let any_port = self.options.free_ports || configured.port() == 0;
            let addr =
                if any_port { SocketAddr::new(configured.ip(), self.ports.take()?) } else { configured };
            // Now, for who listens there already would be taken for the balancer.
            TcpListener::bind(addr).map_err(|source| ClusterError::Taken { addr, source })?;
            let backends = (0..GATEWAYS).map(|_| self.addr()).collect::<Result<_, _>>()?;
            frontends.push(Frontend { names, addr, backends, configured });
        }
        Ok(frontends)
    }

    fn gateways(&mut self, frontends: &[Frontend]) -> Result<Vec<Program>, ClusterError> {
        let mut gateways = Vec::new();
        for index in 0..GATEWAYS {
            let mut program = self.trunkline("gateway", index)?;
            let mut settings = self.listeners(index, frontends);
            settings.push(format!("node.name={}", program.name));
            settings.push(format!("node.drain_s={}", self.served.node.drain_s.min(DRAIN_S)));
            // They share the machine; without this each would take every core.
            settings.push(format!("node.shards={}", self.served.node.shards.max(1)));
            if let Some(file) = &self.api_key_file {
                let file = file.display().to_string();
                settings.push(format!(
                    "api.keys=[{{ name = \"cluster\", secret_file = {file:?}, scopes = [\"emit\", \"post\", \"notify\", \"admin\", \"read\"] }}]"
                ));
            }
            program.args.extend(settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]));
            gateways.push(program);
        }
        Ok(gateways)
    }

    /// Every listener of the configuration, moved to this gateway's ports.
    fn listeners(&self, gateway: usize, frontends: &[Frontend]) -> Vec<String> {
        let moved = |addrs: &[SocketAddr]| {
            let of = |addr: &SocketAddr| frontends.iter().find(|frontend| frontend.configured == *addr);
            let moved = addrs.iter().filter_map(of).map(|frontend| frontend.backends[gateway].to_string());
            moved.collect::<Vec<_>>().join(",")
        };
        let mut settings = Vec::new();
        let apps = self.served.app.iter().enumerate();
        for (index, app) in apps.filter(|(_, app)| !app.listen.is_empty()) {
            settings.push(format!("app[{index}].listen={}", moved(&app.listen)));
        }
        if self.served.app.iter().any(|app| app.listen.is_empty()) {
            settings.push(format!("http.listen={}", moved(&self.served.http.listen)));
        }
        if !self.served.api.listen.is_empty() {
            settings.push(format!("api.listen={}", moved(&self.served.api.listen)));
        }
        settings
    }

    fn coordinators(&mut self) -> Result<Vec<Program>, ClusterError> {
        (0..COORDINATORS).map(|index| self.trunkline("coordinator", index)).collect()
    }

    /// What gateways and coordinators have in common.
    fn trunkline(&mut self, command: &str, index: usize) -> Result<Program, ClusterError> {
        let admin = self.addr()?;
        let kind = if command == "gateway" { Kind::Gateway } else { Kind::Coordinator };
        let config = self.options.config.display().to_string();
        let args = [command, "--config", &config, "--nats", &self.servers, "--admin", &admin.to_string()];
        let replicas = format!("nats.replicas={NATS}");
        Ok(Program {
            name: format!("{command}-{}", index + 1),
            kind,
            binary: self.options.trunkline.clone(),
            args: args.into_iter().chain(["--set", &replicas]).map(str::to_owned).collect(),
            env: vec![("JWT_SECRET", self.key.to_owned())],
            probe: Probe::Http { addr: admin, path: "/readyz" },
            address: format!("http://{admin}/metrics"),
            reads_stdin: false,
        })
    }

    /// haproxy where it is installed, else the balancer of this crate: both choose anew for every request.
    fn balancer(&mut self, frontends: &[Frontend], checks: &[SocketAddr]) -> Result<Program, ClusterError> {
        let first = frontends.first().ok_or_else(|| {
            ClusterError::Configuration("the configuration has no application to connect to".to_owned())
        })?;
        let mut balancer = Program {
            name: "balancer".to_owned(),
            kind: Kind::Balancer,
            binary: PathBuf::from("haproxy"),
            args: vec!["-db".to_owned(), "-f".to_owned()],
            env: Vec::new(),
            probe: Probe::Tcp(first.addr),
            address: String::new(),
            reads_stdin: false,
        };
        if self.options.balancer.is_haproxy() {
            let stats = self.addr()?;
            balancer.address = format!("http://{stats}/");
            let file = self.directory.write("haproxy.cfg", &haproxy(frontends, checks, stats))?;
            balancer.args.push(file.display().to_string());
        } else {
            balancer.address = "testkit".to_owned();
            balancer.binary = std::env::current_exe()
                .map_err(|source| ClusterError::Spawn { binary: PathBuf::from("testkit"), source })?;
            balancer.args = vec!["balancer".to_owned()];
            balancer
                .args
                .extend(frontends.iter().flat_map(|frontend| ["--route".to_owned(), frontend.route()]));
            balancer.reads_stdin = true;
        }
        Ok(balancer)
    }
}

impl Frontend {
    /// `--route` of the testkit's balancer.
    fn route(&self) -> String {
        let backends: Vec<String> = self.backends.iter().map(SocketAddr::to_string).collect();
        format!("{}={}", self.addr, backends.join(","))
    }
}

impl Probe {
    fn addr(self) -> SocketAddr {
        match self {
            Self::Http { addr, .. } | Self::Tcp(addr) => addr,
        }
    }
}

/// Plain round robin by request; a gateway that is not ready, or does not take connections, is passed over.
fn haproxy(frontends: &[Frontend], checks: &[SocketAddr], stats: SocketAddr) -> String {
    let mut text = format!(
        "defaults
  mode http
  balance roundrobin
  timeout connect 2s
  timeout client 65s
  timeout server 65s
  timeout tunnel 1h
  option http-server-close
  option abortonclose
  option redispatch 1
  option httpchk GET /readyz
  default-server inter 500ms fall 1 rise 1
listen stats
  bind {stats}
  stats enable
  stats uri /
"
    );
    for frontend in frontends {
        let name = frontend.names.join("-");
        writeln!(text, "listen {name}\n  bind {}", frontend.addr).expect("a String takes everything");
        for (index, (backend, check)) in frontend.backends.iter().zip(checks).enumerate() {
            let line = format!(
                "  server gateway-{} {backend} check addr {} port {}",
                index + 1,
                check.ip(),
                check.port()
            );
            writeln!(text, "{line}").expect("a String takes everything");
        }
    }
    text
}

/// A token of a user, as `trunkline token mint` makes it.
///
/// # Errors
/// What `trunkline` says against it.
pub async fn token(
    options: &Options,
    key: &str,
    app: &str,
    user: &str,
    role: Option<&str>,
) -> Result<String, ClusterError> {
    let mut args: Vec<&OsStr> =
        ["token", "mint", "--ttl", "24h", "--app", app, "--user", user].map(OsStr::new).into();
    args.extend(["--config".as_ref(), Path::as_os_str(&options.config)]);
    if let Some(role) = role {
        args.extend(["--role", role].map(OsStr::new));
    }
    Ok(super::served::run(&options.trunkline, key, &args).await?.trim().to_owned())
}
