//! What is written down every few seconds, and what it comes to.

use std::fmt;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::rig::Rig;
use crate::rig::program::Program;
use crate::traffic::Traffic;

/// Rotations that a slope is told for.
const SLOPE_OVER: f64 = 100_000.0;

/// The operator at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Seconds since the first request.
    pub seconds: f64,
    /// Rotations asked for so far.
    pub asked: f64,
    /// Rotations so far whose code is in its Secret.
    pub rotations: f64,
    /// `VmRSS` in KiB.
    pub resident: f64,
    /// Open file descriptors.
    pub descriptors: f64,
    /// Threads.
    pub threads: f64,
    /// Tasks of the runtime.
    pub tasks: f64,
    /// Series in `/metrics`.
    pub series: f64,
    /// Seconds of CPU time so far.
    pub cpu_seconds: f64,
    /// Requests that the cloud got so far.
    pub cloud_calls: f64,
}

impl Sample {
    /// Looks now.
    pub async fn take(elapsed: Duration, operator: &Program, traffic: &Traffic, rig: &Rig) -> Result<Self> {
        let told = traffic.told();
        let (_, metrics) = operator.ask("/metrics").await?;
        let series = metrics.lines().filter(|line| !line.starts_with('#')).count();
        let cloud_calls = rig.cloud.with(|cloud| cloud.ledger().requests.len());
        Ok(Self {
            seconds: elapsed.as_secs_f64(),
            asked: float(told.asked),
            rotations: float(told.handled),
            resident: float(usize::try_from(operator.status("VmRSS")?)?),
            descriptors: float(operator.descriptors()?),
            threads: float(usize::try_from(operator.status("Threads")?)?),
            tasks: level(&metrics, "appcode_tasks")?,
            series: float(series),
            cpu_seconds: operator.cpu_seconds()?,
            cloud_calls: float(cloud_calls),
        })
    }

    /// For whoever waits for the end.
    pub fn line(&self) -> String {
        format!(
            "{:6.0} s: {} of {} rotations, VmRSS {} KiB, {} descriptors, {} threads, {} tasks, {} series",
            self.seconds,
            self.rotations,
            self.asked,
            self.resident,
            self.descriptors,
            self.threads,
            self.tasks,
            self.series
        )
    }
}

/// Writes them as a table.
pub fn write(path: &Path, samples: &[Sample]) -> Result<()> {
    let mut table =
        "seconds,asked,rotations,rss_kib,descriptors,threads,tasks,series,cpu_seconds,cloud_calls\n".to_owned();
    for sample in samples {
        writeln!(
            table,
            "{:.0},{},{},{},{},{},{},{},{:.2},{}",
            sample.seconds,
            sample.asked,
            sample.rotations,
            sample.resident,
            sample.descriptors,
            sample.threads,
            sample.tasks,
            sample.series,
            sample.cpu_seconds,
            sample.cloud_calls
        )?;
    }
    std::fs::write(path, table).with_context(|| format!("{} cannot be written", path.display()))
}

/// What the second half of the samples says: by then all that grows once has grown.
#[derive(Debug)]
pub struct Trend {
    resident: (f64, f64),
    slope: f64,
    descriptors: (f64, f64),
    threads: (f64, f64),
    tasks: (f64, f64),
    series: (f64, f64),
    rate: f64,
    cpu_of_a_rotation: f64,
}

impl Trend {
    /// Of the second half of these.
    pub fn of(samples: &[Sample]) -> Self {
        let half = samples.get(samples.len() / 2..).unwrap_or_default();
        let over = |field: fn(&Sample) -> f64| {
            let values = || half.iter().map(field);
            (
                values().fold(f64::INFINITY, f64::min),
                values().fold(f64::NEG_INFINITY, f64::max),
            )
        };
        let passed = |field: fn(&Sample) -> f64| match (half.first(), half.last()) {
            (Some(first), Some(last)) => field(last) - field(first),
            _ => f64::NAN,
        };
        let rotations = passed(|sample| sample.rotations);
        let points = half.iter().map(|sample| (sample.rotations, sample.resident));
        Self {
            resident: over(|sample| sample.resident),
            slope: slope(&points.collect::<Vec<_>>()) * SLOPE_OVER,
            descriptors: over(|sample| sample.descriptors),
            threads: over(|sample| sample.threads),
            tasks: over(|sample| sample.tasks),
            series: over(|sample| sample.series),
            rate: rotations / passed(|sample| sample.seconds),
            cpu_of_a_rotation: passed(|sample| sample.cpu_seconds) / rotations,
        }
    }
}

impl fmt::Display for Trend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let range = |(least, most): (f64, f64)| format!("{least} to {most}");
        let mean = f64::midpoint(self.resident.0, self.resident.1);
        writeln!(f, "in the second half:")?;
        writeln!(
            f,
            "  {:.1} rotations a second, {:.1} ms of CPU each",
            self.rate,
            self.cpu_of_a_rotation * 1000.0
        )?;
        writeln!(f, "  VmRSS {} KiB", range(self.resident))?;
        writeln!(
            f,
            "  slope of VmRSS {:.0} KiB for 100,000 rotations, {:.2} %",
            self.slope,
            self.slope / mean * 100.0
        )?;
        writeln!(f, "  descriptors {}", range(self.descriptors))?;
        writeln!(f, "  threads {}", range(self.threads))?;
        writeln!(f, "  tasks {}", range(self.tasks))?;
        write!(f, "  series {}", range(self.series))
    }
}

/// The value of a gauge without labels.
fn level(metrics: &str, name: &str) -> Result<f64> {
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.with_context(|| format!("the operator does not tell {name}"))?;
    Ok(value.parse()?)
}

/// Of the line with the least squares through these points.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = float(points.len());
    let mean_x = points.iter().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.iter().map(|(_, y)| y).sum::<f64>() / count;
    let along = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum::<f64>();
    let across = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>();
    along / across
}

#[allow(clippy::cast_precision_loss, reason = "2^52 of anything are never counted here")]
fn float(count: usize) -> f64 {
    count as f64
}
