//! The processes of a cluster: started in stages, watched, stopped in order. Nothing is started again unasked: the point is to see what
//! the others do meanwhile.

use std::io::BufRead;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use tokio::process::Child;
use tokio::signal::unix::{Signal, SignalKind, signal as listen_to};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::ClusterError;
use super::directory::Directory;
use super::process::{Kind, Program, signal};

/// How long one member may take to serve: a nats-server with a large store reads it first.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a member may take to stop, a gateway's drain included; then it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the kernel may take to end what was killed, before that is tried again.
const KILL_TIMEOUT: Duration = Duration::from_secs(2);
/// Events and lines that wait to be dealt with.
const QUEUE: usize = 64;

/// Gateways first, so that they can take leave of each other over NATS; those need nobody.
const STOP_ORDER: [&[Kind]; 3] = [&[Kind::Gateway], &[Kind::Coordinator, Kind::Balancer], &[Kind::Nats]];

/// Whether somebody still wants the cluster.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    GoOn,
    Stop,
}

#[derive(Debug)]
pub struct Supervisor {
    members: Vec<Member>,
    /// How many members are in each stage of the start, in the order of `members`.
    stages: Vec<usize>,
    directory: Directory,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    /// Orders; closed at the end of standard input.
    lines: mpsc::Receiver<String>,
    signals: [Signal; 3],
    /// One task owns each process, another waits until it serves. Dropping them kills the processes.
    tasks: JoinSet<()>,
}

#[derive(Debug)]
pub struct Member {
    pub program: Program,
    pub state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Down,
    Starting { pid: u32 },
    Serving { pid: u32 },
}

#[derive(Debug)]
enum Event {
    Serves { member: usize, pid: u32, after: Duration },
    TakesLong { member: usize, pid: u32 },
    Ended { member: usize, pid: u32, how: String },
}

impl State {
    pub fn pid(self) -> Option<u32> {
        match self {
            Self::Down => None,
            Self::Starting { pid } | Self::Serving { pid } => Some(pid),
        }
    }
}

impl Supervisor {
    /// # Errors
    /// Signals that cannot be listened to.
    pub fn new(stages: Vec<Vec<Program>>, directory: Directory) -> Result<Self, ClusterError> {
        let (sender, events) = mpsc::channel(QUEUE);
        let heard = |kind: SignalKind| listen_to(kind).map_err(ClusterError::Signals);
        let signals =
            [heard(SignalKind::interrupt())?, heard(SignalKind::terminate())?, heard(SignalKind::hangup())?];
        let sizes = stages.iter().map(Vec::len).collect();
        let member = |program| Member { program, state: State::Down };
        let members = stages.into_iter().flatten().map(member).collect();
        let (lines, tasks) = (read_lines(), JoinSet::new());
        Ok(Self { members, stages: sizes, directory, events, sender, lines, signals, tasks })
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Returns when all serve, or a signal came.
    ///
    /// # Errors
    /// The first member that does not come up.
    pub async fn start_all(&mut self) -> Result<Wish, ClusterError> {
        let mut first = 0;
        for size in self.stages.clone() {
            let stage = first..first + size;
            first += size;
            for index in stage.clone() {
                self.start(index)?;
            }
            while stage.clone().any(|index| !matches!(self.members[index].state, State::Serving { .. })) {
                let event = tokio::select! {
                    biased;
                    () = interrupted(&mut self.signals) => return Ok(Wish::Stop),
                    Some(event) = self.events.recv() => event,
                };
                let (member, what) = match &event {
                    Event::Serves { .. } => {
                        self.note(&event);
                        continue;
                    }
                    Event::TakesLong { member, .. } => (*member, "did not serve in time".to_owned()),
                    Event::Ended { member, how, .. } => (*member, how.clone()),
                };
                self.note(&event);
                let name = self.members[member].program.name.clone();
                let log = self.directory.log_tail(&name);
                return Err(ClusterError::Start { name, what, log });
            }
        }
        Ok(Wish::GoOn)
    }

    /// The next order, while deaths and recoveries are told as they come; `None` at the end of orders, or at a signal.
    pub async fn next_line(&mut self) -> Option<String> {
        loop {
            tokio::select! {
                biased;
                () = interrupted(&mut self.signals) => return None,
                Some(event) = self.events.recv() => {
                    if let Some(news) = self.note(&event) {
                        println!("{news}");
                    }
                }
                line = self.lines.recv() => return line,
            }
        }
    }

    /// Starts a member that died.
    pub fn start_again(&mut self, name: &str) {
        match self.find(name) {
            Some(index) if self.members[index].state == State::Down => {
                if let Err(error) = self.start(index) {
                    println!("{error}");
                }
            }
            Some(_) => println!("{name} runs"),
            None => println!("{}", self.nobody(name)),
        }
    }

    pub async fn signal(&self, name: &str, what: &str) {
        match self.find(name).map(|index| self.members[index].state.pid()) {
            Some(Some(pid)) => {
                signal(what, pid).await;
                println!("SIG{what} to {name} (pid {pid})");
            }
            Some(None) => println!("{name} does not run"),
            None => println!("{}", self.nobody(name)),
        }
    }

    /// Returns when every process is gone; a signal meanwhile kills the rest.
    pub async fn stop_all(&mut self) {
        println!("stopping");
        for kinds in STOP_ORDER {
            self.tell(kinds, &["TERM", "CONT"]).await;
            let mut deadline = Instant::now() + STOP_TIMEOUT;
            while self.running(kinds).next().is_some() {
                let gone = tokio::select! {
                    biased;
                    () = interrupted(&mut self.signals) => false,
                    Some(event) = self.events.recv() => { self.note(&event); true }
                    () = tokio::time::sleep_until(deadline.into()) => false,
                };
                if !gone {
                    self.tell(kinds, &["KILL"]).await;
                    deadline = Instant::now() + KILL_TIMEOUT;
                }
            }
        }
    }

    async fn tell(&self, kinds: &[Kind], signals: &[&str]) {
        for pid in self.running(kinds) {
            for what in signals {
                signal(what, pid).await;
            }
        }
    }

    fn running(&self, kinds: &[Kind]) -> impl Iterator<Item = u32> {
        let of_kind = |member: &&Member| kinds.contains(&member.program.kind);
        self.members.iter().filter(of_kind).filter_map(|member| member.state.pid())
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.members.iter().position(|member| member.program.name == name)
    }

    fn nobody(&self, name: &str) -> String {
        let names: Vec<&str> = self.members.iter().map(|member| &*member.program.name).collect();
        format!("there is no {name}, but {}", names.join(", "))
    }

    fn start(&mut self, member: usize) -> Result<(), ClusterError> {
        let program = &self.members[member].program;
        let child = program.spawn(&self.directory)?;
        let pid = child.id().unwrap_or(0);
        let (probe, started) = (program.probe, Instant::now());
        self.members[member].state = State::Starting { pid };
        self.tasks.spawn(watch(child, member, pid, self.sender.clone()));
        let sender = self.sender.clone();
        self.tasks.spawn(async move {
            let event = match tokio::time::timeout(START_TIMEOUT, probe.answered()).await {
                Ok(()) => Event::Serves { member, pid, after: started.elapsed() },
                Err(_) => Event::TakesLong { member, pid },
            };
            // A closed channel means that nobody waits for it any more.
            let _ = sender.send(event).await;
        });
        Ok(())
    }

    /// Takes note of an event, and says what is news to people.
    fn note(&mut self, event: &Event) -> Option<String> {
        while self.tasks.try_join_next().is_some() {}
        let (index, pid) = match event {
            Event::Serves { member, pid, .. }
            | Event::TakesLong { member, pid }
            | Event::Ended { member, pid, .. } => (*member, *pid),
        };
        let member = &mut self.members[index];
        // What was started for one that died meanwhile is no news.
        if member.state.pid() != Some(pid) {
            return None;
        }
        let name = &member.program.name;
        match event {
            Event::Serves { after, .. } => {
                member.state = State::Serving { pid };
                Some(format!("{name} (pid {pid}) serves after {:.1} s", after.as_secs_f64()))
            }
            Event::TakesLong { .. } => Some(format!(
                "{name} (pid {pid}) does not serve yet; see {}",
                self.directory.log(name).display()
            )),
            Event::Ended { how, .. } => {
                member.state = State::Down;
                Some(format!("{name} (pid {pid}) {how}: `start {name}` brings it back"))
            }
        }
    }
}

/// Owns the process to its end.
async fn watch(mut child: Child, member: usize, pid: u32, sender: mpsc::Sender<Event>) {
    // `wait` would close it, and who reads it would end.
    let _stdin = child.stdin.take();
    let how = match child.wait().await {
        Ok(status) => ending(status),
        Err(error) => format!("cannot be waited for ({error})"),
    };
    // A closed channel means that nobody waits for it any more.
    let _ = sender.send(Event::Ended { member, pid, how }).await;
}

fn ending(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("died by signal {signal}"),
        (None, code) => format!("ended with status {}", code.unwrap_or(-1)),
    }
}

async fn interrupted([interrupt, terminate, hangup]: &mut [Signal; 3]) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

/// Standard input in a thread of its own: a pending read of tokio's would hold up the end of the process.
fn read_lines() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(QUEUE);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}
