//! Memory, CPU time, files, threads and age of this process, read from Linux's `/proc` at each scrape; nothing elsewhere.

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};

/// `/proc/self/stat` counts CPU time in ticks of `USER_HZ`, which is 100 on every architecture we build for.
const TICKS_PER_S: f64 = 100.0;

pub struct ProcessCollector {
    resident_bytes: Gauge,
    cpu_s: Counter,
    open_fds: Gauge,
    max_fds: Gauge,
    threads: Gauge,
    started: Gauge,
}

impl ProcessCollector {
    pub fn new() -> Self {
        let gauge = |name: &str, help: &str| Gauge::new(name, help).expect("the names below are legal");
        Self {
            resident_bytes: gauge("process_resident_memory_bytes", "Resident memory"),
            cpu_s: Counter::new("process_cpu_seconds_total", "User and system CPU time")
                .expect("the name is legal"),
            open_fds: gauge("process_open_fds", "Open file descriptors"),
            max_fds: gauge("process_max_fds", "Soft limit of open file descriptors"),
            threads: gauge("process_threads", "Threads"),
            started: gauge("process_start_time_seconds", "When the process was started, in Unix time"),
        }
        .with_start()
    }

    /// The start never changes.
    fn with_start(self) -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let system = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        if let (Some(since_boot_s), Some(boot_s)) = (start_seconds(&stat), first_number(&system, "btime")) {
            self.started.set(boot_s + since_boot_s);
        }
        self
    }

    fn metrics(&self) -> [&dyn Collector; 6] {
        [&self.resident_bytes, &self.cpu_s, &self.open_fds, &self.max_fds, &self.threads, &self.started]
    }

    /// A figure that cannot be read keeps its last value.
    fn refresh(&self) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let set = |gauge: &Gauge, value: Option<f64>| value.into_iter().for_each(|value| gauge.set(value));
        set(&self.resident_bytes, first_number(&status, "VmRSS:").map(|kib| kib * 1024.0));
        set(&self.threads, first_number(&status, "Threads:"));
        set(&self.max_fds, first_number(&limits, "Max open files"));
        set(&self.open_fds, std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64));
        if let Some(cpu_s) = std::fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu_seconds)
        {
            self.cpu_s.reset();
            self.cpu_s.inc_by(cpu_s);
        }
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.metrics().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.refresh();
        self.metrics().into_iter().flat_map(Collector::collect).collect()
    }
}

/// The number after `label`, which begins its line.
fn first_number(text: &str, label: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// `utime` and `stime`, the 14th and 15th field (proc_pid_stat(5)). The 2nd, the command, may hold spaces and ends with `)`.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_S)
}

/// When it was started, after the boot: the 22nd field.
fn start_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let ticks: f64 = rest.split_whitespace().nth(19)?.parse().ok()?;
    Some(ticks / TICKS_PER_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        assert_eq!(first_number("Name:\tx\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2048.0));
        assert_eq!(
            first_number("Max open files            20000  20000 files", "Max open files"),
            Some(20000.0)
        );
        assert_eq!(cpu_seconds("1 (a b) c) S 1 1 1 0 -1 4194304 1 2 3 4 150 50 0 0 20"), Some(2.0));
        assert_eq!(cpu_seconds("nonsense"), None);
        assert_eq!(start_seconds("1 (a) S 1 1 1 0 -1 4194304 1 2 3 4 150 50 0 0 20 0 1 0 700 9"), Some(7.0));
    }
}
