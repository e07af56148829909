//! What the servers under test consume, read from `/proc`.

use std::collections::HashMap;
use std::{fs, io};

use serde::Serialize;

const NANOS_PER_TICK: u64 = 10_000_000;

/// One sample of one process.
#[derive(Debug, Clone)]
pub struct Usage {
    pub pid: u32,
    /// User and system CPU time by thread, nanoseconds.
    threads: HashMap<u32, u64>,
    pub rss_bytes: u64,
}

/// What one process consumed between two samples.
#[derive(Debug, Clone, Serialize)]
pub struct Consumption {
    pub pid: u32,
    pub name: String,
    pub cpu_s: f64,
    pub rss_kib: u64,
    pub rss_growth_kib: i64,
}

/// Samples every process; a process that is gone is an error.
pub fn sample(pids: &[u32]) -> io::Result<Vec<Usage>> {
    pids.iter().map(|&pid| Usage::of(pid)).collect()
}

/// Pairs two samples of the same processes.
pub fn between(before: &[Usage], after: &[Usage]) -> Vec<Consumption> {
    before.iter().zip(after).map(|(before, after)| after.since(before)).collect()
}

impl Usage {
    pub fn of(pid: u32) -> io::Result<Usage> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let rss_kib: u64 = rss.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0);
        let mut threads = HashMap::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let Some(tid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if let Some(nanos) = thread_nanos(pid, tid) {
                threads.insert(tid, nanos);
            }
        }
        Ok(Usage { pid, threads, rss_bytes: rss_kib * 1024 })
    }

    /// Threads that ended in between are left out: what they did before the first sample is unknown here.
    fn since(&self, before: &Usage) -> Consumption {
        let nanos: u64 = self
            .threads
            .iter()
            .map(|(tid, nanos)| nanos.saturating_sub(before.threads.get(tid).copied().unwrap_or(0)))
            .sum();
        let name = fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
        Consumption {
            pid: self.pid,
            name: name.trim().to_owned(),
            cpu_s: nanos as f64 / 1e9,
            rss_kib: self.rss_bytes / 1024,
            rss_growth_kib: (self.rss_bytes as i64 - before.rss_bytes as i64) / 1024,
        }
    }
}

/// `schedstat` counts nanoseconds; `stat`, which every kernel has, counts ticks of 10 ms.
fn thread_nanos(pid: u32, tid: u32) -> Option<u64> {
    if let Ok(text) = fs::read_to_string(format!("/proc/{pid}/task/{tid}/schedstat")) {
        return text.split(' ').next()?.parse().ok();
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    // The second field is the name in parentheses and may hold spaces; user and system time are fields 14 and 15.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(ticks * NANOS_PER_TICK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_done_shows_as_consumption() {
        let me = [std::process::id()];
        let before = sample(&me).unwrap();
        let mut sum = 0_u64;
        let mut after = sample(&me).unwrap();
        while between(&before, &after)[0].cpu_s < 0.01 {
            sum = (0..100_000).fold(sum, |sum, n| std::hint::black_box(sum.wrapping_add(n)));
            after = sample(&me).unwrap();
        }
        let used = &between(&before, &after)[0];
        assert!(used.rss_kib > 0 && used.cpu_s >= 0.01, "{used:?}");
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(sample(&[u32::MAX - 1]).is_err());
    }
}
