//! The process itself, by the names that every program's metrics have. Where there is no `/proc`, nothing is told.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Ticks in a second of the times in `/proc`, whatever the kernel's own clock does (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;
/// Place of `utime` among the fields of `/proc/self/stat` after the program's name; `stime` follows. See proc(5).
const USER_TIME: usize = 11;

/// Reads `/proc/self` for each scrape.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        if let Some(seconds) = read("stat").as_deref().and_then(cpu_seconds) {
            let help = "Time that the process has used of processors.";
            let unit = Unit::Seconds;
            let metric = encoder.encode_descriptor("process_cpu", help, Some(&unit), MetricType::Counter)?;
            ConstCounter::new(seconds).encode(metric)?;
        }
        if let Some(bytes) = read("status").as_deref().and_then(resident_bytes) {
            let help = "Memory of the process that is in RAM.";
            let unit = Unit::Bytes;
            let metric = encoder.encode_descriptor("process_resident_memory", help, Some(&unit), MetricType::Gauge)?;
            ConstGauge::new(bytes).encode(metric)?;
        }
        if let Ok(files) = fs::read_dir("/proc/self/fd") {
            let help = "Open file descriptors of the process.";
            let metric = encoder.encode_descriptor("process_open_fds", help, None, MetricType::Gauge)?;
            // One of them lists the others.
            ConstGauge::new(files.count().saturating_sub(1)).encode(metric)?;
        }
        Ok(())
    }
}

fn read(file: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/self/{file}")).ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    // The name stands in brackets and may hold anything.
    let (_, fields) = stat.rsplit_once(") ")?;
    let times = fields.split(' ').skip(USER_TIME).take(2);
    let ticks = times.map(|field| field.parse::<u32>().ok().map(f64::from));
    Some(ticks.sum::<Option<f64>>()? / TICKS_PER_SECOND)
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 3 0 100 1000 200";
        assert_eq!(cpu_seconds(stat).map(|seconds| seconds.to_string()), Some("2".into()));
        assert_eq!(cpu_seconds("42 (a"), None);
        assert_eq!(resident_bytes("VmHWM:\t  9 kB\nVmRSS:\t   2048 kB\n"), Some(2 << 20));
        assert!(read("stat").as_deref().and_then(cpu_seconds).is_some());
        assert!(
            read("status")
                .as_deref()
                .and_then(resident_bytes)
                .is_some_and(|bytes| bytes > 1 << 20)
        );
    }
}
