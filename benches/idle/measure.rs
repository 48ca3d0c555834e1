//! One set of resources measured: starts in turns, then rest side by side, then some rotations.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use appcode_operator::api::{AppCodeRotation, ROTATE_REQUESTED_AT};
use cloud_simulator::Operation;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use tokio::time::sleep;

use crate::audit::{Audit, Requests, as_float, told};
use crate::rig::program::Program;
use crate::rig::{OPERATOR, Rig, machine, name_of, number, program};
use crate::{NAMESPACE, until};

/// The user that the peer signs in as.
pub const PEER: &str = "peer";
/// Rotations asked for in each step.
pub const ROTATED: usize = 200;
/// Calls on the cloud wait for nothing but the cloud, and routine checks are measured apart.
pub const FLAGS: [&str; 3] = ["--caller-rate=10000", "--total-rate=10000", "--check-period=24h"];
/// Rest is when nothing was asked of anybody for so long.
const CALM: Duration = Duration::from_secs(5);

/// The rig, the programs and what they asked.
pub struct Bench {
    /// Where it all is.
    pub rig: Rig,
    operator: PathBuf,
    peer: PathBuf,
    rounds: u32,
    window: Duration,
    operator_asked: Audit,
    peer_asked: Audit,
    /// Operators started so far: each has a log of its own.
    started: u32,
}

/// Memory in KiB.
#[derive(Clone, Copy)]
struct Memory {
    resident: u64,
    /// What is resident and no part of a file, such as the program itself.
    anonymous: u64,
    peak: u64,
}

impl Memory {
    fn of(program: &Program) -> Result<Self> {
        Ok(Self {
            resident: program.status("VmRSS")?,
            anonymous: program.status("RssAnon")?,
            peak: program.status("VmHWM")?,
        })
    }
}

/// One start of a program: how long until it was ready, and its memory then.
struct Start {
    took: Duration,
    memory: Option<Memory>,
}

/// What is looked at while a program rests.
struct Look {
    memory: Memory,
    cpu_seconds: f64,
}

impl Look {
    fn at(program: &Program) -> Result<Self> {
        Ok(Self {
            memory: Memory::of(program)?,
            cpu_seconds: program.cpu_seconds()?,
        })
    }
}

impl Bench {
    /// Nothing is measured yet.
    pub fn new(rig: Rig) -> Result<Self> {
        let log = rig.plane.audit_log().context("there is an audit log")?;
        Ok(Self {
            rig,
            operator: program("OPERATOR", env!("CARGO_BIN_EXE_appcode-operator")),
            peer: std::env::var_os("PEER")
                .map(PathBuf::from)
                .context("PEER must name the program default-controller; `make bench-idle` builds it")?,
            rounds: number("ROUNDS", 3)?.max(1),
            window: Duration::from_secs(number("SECONDS", 60)?.into()),
            operator_asked: Audit::of(log.clone(), OPERATOR),
            peer_asked: Audit::of(log, PEER),
            started: 0,
        })
    }

    /// How often each start and each hand-over is measured.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Starts the measured program.
    pub fn start_operator(&mut self, flags: &[&str]) -> Result<Program> {
        self.started += 1;
        let log = self.rig.plane.dir().join(format!("operator-{}.log", self.started));
        Program::operator(&self.operator, self.rig.operator()?, &self.rig.cloud.url(), flags, log)
    }

    fn start_peer(&self, arguments: &[&str]) -> Result<Program> {
        let log = self.rig.plane.dir().join("peer.log");
        Program::other(&self.peer, arguments, self.rig.plane.kubeconfig(PEER)?, log)
    }

    /// Lets the operator take over what is new.
    pub async fn take_over(&mut self, count: usize) -> Result<()> {
        let mut operator = self.start_operator(&FLAGS)?;
        operator.ready().await?;
        // Looking at all of them is a load of its own, so it is left for when there is rest.
        loop {
            self.calm().await?;
            let unready = self.rig.unready().await?.len();
            if unready == 0 {
                break;
            }
            println!("{unready} resources are not ready yet");
        }
        let memory = Memory::of(&operator)?;
        println!(
            "\n{count} resources are taken over: VmRSS {} KiB, VmHWM {} KiB",
            memory.resident, memory.peak
        );
        operator.stop().await
    }

    /// Waits until the operator asks nothing of anybody, but for its lease.
    async fn calm(&mut self) -> Result<()> {
        let mut calls = self.rig.cloud.with(|cloud| cloud.ledger().requests.len());
        loop {
            sleep(CALM).await;
            let mut news = self.operator_asked.news()?;
            news.retain(|request, _| !request.ends_with(" leases"));
            let now = self.rig.cloud.with(|cloud| cloud.ledger().requests.len());
            if news.is_empty() && now == calls {
                return Ok(());
            }
            calls = now;
        }
    }

    /// Measures all and prints it. Rotations are asked for of the first `fresh` after so many.
    pub async fn measure(&mut self, title: &str, fresh: &[String], skip: usize) -> Result<()> {
        println!("\n## {title}\n\n{}\n", machine());
        println!("| | operator | default `Controller` | ratio |\n|---|---|---|---|");
        self.measure_starts().await?;
        self.operator_asked.news()?;
        let mut operator = self.start_operator(&FLAGS)?;
        let mut peer = self.start_peer(&[])?;
        operator.ready().await?;
        peer.written("ready").await?;
        self.calm().await?;
        self.measure_rest(&operator, &peer).await?;
        drop(peer);
        let apps: Vec<&String> = fresh.iter().skip(skip).take(ROTATED).collect();
        self.measure_rotations(&operator, &apps).await?;
        operator.stop().await
    }

    async fn measure_starts(&mut self) -> Result<()> {
        let (mut ours, mut theirs, mut bare) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            let mut operator = self.start_operator(&FLAGS)?;
            let took = operator.ready().await?;
            let memory = Some(Memory::of(&operator)?);
            ours.push(Start { took, memory });
            operator.stop().await?;
            let took = self.start_peer(&["list"])?.ended().await?;
            bare.push(Start { took, memory: None });
            let mut peer = self.start_peer(&[])?;
            let took = peer.written("ready").await?;
            let memory = Some(Memory::of(&peer)?);
            theirs.push(Start { took, memory });
        }
        let (ours_took, theirs_took, bare_took) = (millis(&ours), millis(&theirs), millis(&bare));
        row(
            "start to ready, ms",
            &all(&ours_took),
            &all(&theirs_took),
            ratio(&ours_took, &theirs_took),
        );
        row(
            "… a bare paged list, ms",
            "",
            &all(&bare_took),
            ratio(&ours_took, &bare_took),
        );
        let peak = |starts: &[Start]| -> Vec<f64> {
            let peaks = starts.iter().filter_map(|start| start.memory);
            peaks.map(|memory| as_kib(memory.peak)).collect()
        };
        let (ours, theirs) = (peak(&ours), peak(&theirs));
        row(
            "VmHWM when ready, KiB",
            &all(&ours),
            &all(&theirs),
            ratio(&ours, &theirs),
        );
        Ok(())
    }

    async fn measure_rest(&mut self, operator: &Program, peer: &Program) -> Result<()> {
        self.peer_asked.news()?;
        let calls = self.rig.cloud.with(|cloud| cloud.ledger().requests.len());
        let lines = operator.output().lines().count();
        let before = [Look::at(operator)?, Look::at(peer)?];
        sleep(self.window).await;
        let after = [Look::at(operator)?, Look::at(peer)?];
        let minutes = self.window.as_secs_f64() / 60.0;
        let [ours, theirs] = &after;
        let kib = |name: &str, ours: u64, theirs: u64| {
            row(
                name,
                &ours.to_string(),
                &theirs.to_string(),
                as_kib(ours) / as_kib(theirs),
            );
        };
        kib("VmRSS at rest, KiB", ours.memory.resident, theirs.memory.resident);
        kib("… of it anonymous, KiB", ours.memory.anonymous, theirs.memory.anonymous);
        kib("VmHWM at rest, KiB", ours.memory.peak, theirs.memory.peak);
        let (ours, theirs) = (operator.descriptors()?, peer.descriptors()?);
        row("file descriptors", &ours.to_string(), &theirs.to_string(), f64::NAN);
        let share = |at: usize| -> f64 {
            let used = |looks: &[Look; 2]| looks.get(at).map_or(0.0, |look| look.cpu_seconds);
            (used(&after) - used(&before)) / self.window.as_secs_f64() * 100.0
        };
        let text = |share: f64| format!("{share:.3}");
        row("CPU at rest, % of a core", &text(share(0)), &text(share(1)), f64::NAN);
        let (ours, theirs) = (self.operator_asked.news()?, self.peer_asked.news()?);
        row(
            "API calls a minute",
            &told(&ours, minutes),
            &told(&theirs, minutes),
            f64::NAN,
        );
        let calls = self.rig.cloud.with(|cloud| cloud.ledger().requests.len()) - calls;
        row(
            "cloud calls a minute",
            &format!("{:.1}", as_float(calls) / minutes),
            "",
            f64::NAN,
        );
        let lines = operator.output().lines().count() - lines;
        row(
            "log lines a minute",
            &format!("{:.1}", as_float(lines) / minutes),
            "",
            f64::NAN,
        );
        Ok(())
    }

    /// Asks for one rotation of each app, all at once.
    async fn measure_rotations(&mut self, operator: &Program, apps: &[&String]) -> Result<()> {
        if apps.is_empty() {
            return Ok(());
        }
        self.operator_asked.news()?;
        let (resets, passes) = (self.rig.cloud.calls(Operation::Reset), passes(operator).await?);
        let calls = self.rig.cloud.with(|cloud| cloud.ledger().requests.len());
        for app in apps {
            self.ask_for_rotation(app).await?;
        }
        let cloud = &self.rig.cloud;
        let all_reset = async || Ok(cloud.calls(Operation::Reset) >= resets + apps.len());
        until("every rotation", all_reset).await?;
        let asked = self.asked_until_calm().await?;
        let by = as_float(apps.len());
        row("API calls a rotation", &told(&asked, by), "", f64::NAN);
        let calls = self.rig.cloud.with(|cloud| cloud.ledger().requests.len()) - calls;
        row(
            "cloud calls a rotation",
            &format!("{:.2}", as_float(calls) / by),
            "",
            f64::NAN,
        );
        let passes = self::passes(operator).await? - passes;
        row("reconciles a rotation", &format!("{:.2}", passes / by), "", f64::NAN);
        Ok(())
    }

    /// Asks for a rotation of an app's code, once in its life.
    pub async fn ask_for_rotation(&self, app: &str) -> Result<()> {
        let rotations: Api<AppCodeRotation> = Api::namespaced(self.rig.client.clone(), NAMESPACE);
        let change = Patch::Merge(json!({ "metadata": { "annotations": { ROTATE_REQUESTED_AT: "bench" } } }));
        rotations.patch(&name_of(app), &PatchParams::default(), &change).await?;
        Ok(())
    }

    /// All that is asked until there is rest.
    async fn asked_until_calm(&mut self) -> Result<Requests> {
        let before = self.operator_asked.all().clone();
        self.calm().await?;
        let mut asked = self.operator_asked.all().clone();
        for (request, count) in before {
            if let Some(now) = asked.get_mut(&request) {
                *now -= count;
            }
        }
        asked.retain(|_, count| *count > 0);
        Ok(asked)
    }

    /// What a routine check costs, which each resource at rest has once in a check period.
    pub async fn measure_checks(&mut self) -> Result<()> {
        let [caller, total, _] = FLAGS;
        let mut operator = self.start_operator(&[caller, total, "--check-period=10s"])?;
        operator.ready().await?;
        sleep(Duration::from_secs(20)).await;
        self.operator_asked.news()?;
        let checks = self.rig.cloud.calls(Operation::Show);
        sleep(Duration::from_secs(30)).await;
        let asked = self.operator_asked.news()?;
        let checks = self.rig.cloud.calls(Operation::Show) - checks;
        println!(
            "\nA routine check: one call of the cloud, and of the API server {}",
            told(&asked, as_float(checks))
        );
        operator.stop().await
    }

    /// Ends all. Fails if a Secret was ever listed or watched.
    pub async fn finish(mut self) -> Result<()> {
        self.operator_asked.news()?;
        println!(
            "\nAll that the operator asked of the API server: {}",
            told(self.operator_asked.all(), 1.0)
        );
        let is_forbidden = |request: &&String| ["list secrets", "watch secrets"].contains(&request.as_str());
        if let Some(request) = self.operator_asked.all().keys().find(is_forbidden) {
            bail!("the operator asked for {request}");
        }
        println!("It never listed or watched Secrets.");
        self.rig.stop().await
    }
}

/// Passes that the operator has counted.
async fn passes(operator: &Program) -> Result<f64> {
    let (_, text) = operator.ask("/metrics").await?;
    let samples = text
        .lines()
        .filter(|line| line.starts_with("appcode_reconciles_total{"));
    let values = samples.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    Ok(values.sum())
}

fn millis(starts: &[Start]) -> Vec<f64> {
    starts.iter().map(|start| start.took.as_secs_f64() * 1000.0).collect()
}

#[allow(clippy::cast_precision_loss, reason = "no memory has 2^52 KiB")]
fn as_kib(kib: u64) -> f64 {
    kib as f64
}

/// The middle one of them.
pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The median, and all of them.
fn all(values: &[f64]) -> String {
    let each: Vec<String> = values.iter().map(|value| format!("{value:.0}")).collect();
    format!("{:.0} ({})", median(values), each.join(" "))
}

/// Median of the ratios within each round.
fn ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    median(&ratios)
}

fn row(name: &str, ours: &str, theirs: &str, ratio: f64) {
    let ratio = if ratio.is_nan() {
        String::new()
    } else {
        format!("{ratio:.2}")
    };
    println!("| {name} | {ours} | {theirs} | {ratio} |");
}
