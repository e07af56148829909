//! The measured window: warm-up, load, drain; the servers' CPU and the operations done are sampled at the same two
//! instants, so that neither warm-up nor drain counts.

use std::iter::Peekable;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::RunError;
use crate::report::Cpu;
use crate::schedule::Schedule;
use crate::stamp::now_ns;
use crate::usage;

/// After the load has ended nothing is expected to take longer.
const DRAIN_LIMIT: Duration = Duration::from_secs(10);
/// Nothing new for this long: what is missing will not come.
const DRAIN_QUIET: Duration = Duration::from_secs(2);
/// A second copy of the last messages would come right behind the first.
const DRAIN_LINGER: Duration = Duration::from_millis(100);
const DRAIN_POLL: Duration = Duration::from_millis(5);

/// Lets senders and workers wake up before the first message is due.
const LEAD: Duration = Duration::from_millis(20);

/// Counters that the clients keep and the main thread watches.
#[derive(Debug, Default)]
pub struct Progress {
    /// Operations that should complete: deliveries, echoes, acks.
    pub expected: AtomicU64,
    pub done: AtomicU64,
    /// What follows from operations and is none itself: the drain waits for it too.
    pub expected_after: AtomicU64,
    pub done_after: AtomicU64,
    /// Latencies of operations due earlier are not recorded.
    measure_from_ns: AtomicU64,
    stopped: AtomicBool,
}

impl Progress {
    pub fn is_measured(&self, due_ns: u64) -> bool {
        due_ns >= self.measure_from_ns.load(Ordering::Relaxed)
    }

    /// True when a closed loop must not begin anything new.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    fn all_done(&self) -> u64 {
        self.done() + self.done_after.load(Ordering::Relaxed)
    }

    fn all_expected(&self) -> u64 {
        self.expected.load(Ordering::Relaxed) + self.expected_after.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Clone)]
pub struct Window {
    pub warmup: Duration,
    pub length: Duration,
    /// Processes whose CPU and memory are sampled.
    pub pids: Vec<u32>,
}

/// What happened inside the window.
pub struct Measured {
    pub operations: u64,
    pub seconds: f64,
    pub cpu: Option<Cpu>,
}

impl Window {
    /// Open loop: gives every order when it is due, whether or not the server keeps up.
    pub fn run_open(
        &self,
        progress: &Progress,
        mut schedule: Peekable<Schedule>,
        mut give: impl FnMut(usize, u64),
    ) -> Result<Measured, RunError> {
        let start_ns = now_ns() + LEAD.as_nanos() as u64;
        progress.measure_from_ns.store(start_ns + self.warmup.as_nanos() as u64, Ordering::Relaxed);
        let mut pace_until = |end: Duration| {
            let end_ns = end.as_nanos() as u64;
            while let Some(slot) = schedule.next_if(|slot| slot.offset_ns < end_ns) {
                sleep_until(start_ns + slot.offset_ns);
                give(slot.sender, start_ns + slot.offset_ns);
            }
            sleep_until(start_ns + end_ns);
        };
        pace_until(self.warmup);
        let measured = self.sampled(progress, || pace_until(self.warmup + self.length))?;
        self.drain(progress);
        Ok(measured)
    }

    /// Closed loop: the clients drive themselves once `begin` has started them.
    pub fn run_closed(&self, progress: &Progress, begin: impl FnOnce()) -> Result<Measured, RunError> {
        let from_ns = now_ns() + self.warmup.as_nanos() as u64;
        progress.measure_from_ns.store(from_ns, Ordering::Relaxed);
        begin();
        std::thread::sleep(self.warmup);
        let measured = self.sampled(progress, || std::thread::sleep(self.length))?;
        self.drain(progress);
        Ok(measured)
    }

    fn sampled(&self, progress: &Progress, load: impl FnOnce()) -> Result<Measured, RunError> {
        let before = usage::sample(&self.pids).map_err(RunError::Usage)?;
        let (started, done) = (Instant::now(), progress.done());
        load();
        let (seconds, operations) = (started.elapsed().as_secs_f64(), progress.done() - done);
        let after = usage::sample(&self.pids).map_err(RunError::Usage)?;
        let cpu = Cpu::per_operation(usage::between(&before, &after), operations);
        Ok(Measured { operations, seconds, cpu })
    }

    fn drain(&self, progress: &Progress) {
        progress.stopped.store(true, Ordering::Relaxed);
        let started = Instant::now();
        let (mut last_done, mut last_change) = (progress.all_done(), Instant::now());
        while progress.all_done() < progress.all_expected() {
            std::thread::sleep(DRAIN_POLL);
            if progress.all_done() != last_done {
                (last_done, last_change) = (progress.all_done(), Instant::now());
            }
            if started.elapsed() > DRAIN_LIMIT || last_change.elapsed() > DRAIN_QUIET {
                return;
            }
        }
        std::thread::sleep(DRAIN_LINGER);
    }
}

fn sleep_until(due_ns: u64) {
    if let Some(left) = due_ns.checked_sub(now_ns()) {
        std::thread::sleep(Duration::from_nanos(left));
    }
}
