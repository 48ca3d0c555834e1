//! Rotations for an hour, with faults on a low flame: does the operator grow, and does it lose anything? `make soak-hour`.
//!
//! The real program on a real control plane and the simulated cloud. Every resource is asked for a rotation again and
//! again, so many a second in all; now and then an answer is lost, late, refused or an error. Memory, descriptors,
//! threads, tasks and series are written down every few seconds. In the end all faults stop, and the cloud's ledger and the
//! Secrets are held against what was asked for: it fails if a code is lost or one request led to two resets. What grew
//! and how much is told, not judged.
//!
//! `SOAK_SECONDS=3600`, `SOAK_RATE=20` rotations a second, `SOAK_FAULTS=20` faults for a thousand rotations,
//! `SOAK_RESOURCES=600` of `SOAK_TENANTS=6` users, `SOAK_EVERY=10` seconds between two samples, `SOAK_SEED=0` chooses the
//! faults, `SOAK_OUT` is the folder of `soak.csv` and `soak.svg`. `OPERATOR` is the program.

mod flame;
mod judge;
mod plot;
#[allow(dead_code, reason = "what only the other measurement uses")]
#[path = "../rig/mod.rs"]
mod rig;
mod samples;
mod traffic;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use cloud_simulator::NewApp;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval, sleep};

use self::flame::Flame;
use self::rig::program::Program;
use self::rig::{Rig, machine, number, program};
use self::samples::{Sample, Trend};
use self::traffic::{Member, Traffic};

/// Short times in their right order, so that what a fault leaves open is settled before the next rotation is asked for.
const FLAGS: [&str; 9] = [
    "--settle-window=8s",
    "--request-deadline=2s",
    "--connect-timeout=1s",
    "--minimum-interval=10s",
    "--daily-budget=65000",
    "--check-period=10m",
    "--caller-rate=200",
    "--total-rate=400",
    "--log=warn",
];
/// How long the operator has to bring all to rest, once nothing goes wrong any more.
const PATIENCE: Duration = Duration::from_secs(600);

struct Plan {
    time: Duration,
    rate: u32,
    faults: u32,
    resources: u32,
    tenants: u32,
    every: Duration,
    out: PathBuf,
}

impl Plan {
    fn from_environment() -> Result<Self> {
        let plan = Self {
            time: Duration::from_secs(number("SOAK_SECONDS", 3600)?.into()),
            rate: number("SOAK_RATE", 20)?,
            faults: number("SOAK_FAULTS", 20)?,
            resources: number("SOAK_RESOURCES", 600)?,
            tenants: number("SOAK_TENANTS", 6)?,
            every: Duration::from_secs(number("SOAK_EVERY", 10)?.into()),
            out: program("SOAK_OUT", "target/soak"),
        };
        if plan.rate == 0 || plan.tenants == 0 || plan.resources == 0 || plan.every.is_zero() {
            bail!("SOAK_RATE, SOAK_TENANTS, SOAK_RESOURCES and SOAK_EVERY must be above zero");
        }
        Ok(plan)
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let plan = Plan::from_environment()?;
    std::fs::create_dir_all(&plan.out)?;
    let rig = Rig::set(Vec::new(), false).await?;
    let members = make_members(&rig, &plan).await?;
    let log = plan.out.join("operator.log");
    let path = program("OPERATOR", env!("CARGO_BIN_EXE_appcode-operator"));
    let mut operator = Program::operator(&path, rig.operator()?, &rig.cloud.url(), &FLAGS, log)?;
    operator.ready().await?;
    until_ready(&rig).await?;

    let mut traffic = Traffic::new(&rig, members);
    let mut flame = Flame::new(&rig.cloud, plan.faults, number("SOAK_SEED", 0)?.into());
    let samples = soak(&plan, &rig, &operator, &mut traffic, &mut flame).await?;
    println!("{}", machine());
    flame.stop();
    until_calm(&rig, &traffic).await?;

    let told = traffic.told();
    let trend = Trend::of(&samples);
    println!("{told}; {}\n{trend}", flame.told());
    samples::write(&plan.out.join("soak.csv"), &samples)?;
    let title = format!(
        "{} rotations in {} minutes, {} resources",
        told.handled,
        plan.time.as_secs() / 60,
        plan.resources
    );
    std::fs::write(plan.out.join("soak.svg"), plot::draw(&title, &samples))?;
    println!("{}", judge::judge(&rig, &traffic)?);
    drop(traffic);
    operator.stop().await?;
    rig.stop().await
}

/// Users with apps of one code, and a resource for each app that rotates only when asked.
async fn make_members(rig: &Rig, plan: &Plan) -> Result<Vec<Member>> {
    let mut members = Vec::new();
    for tenant in 0..plan.tenants {
        let namespace = format!("tenant-{tenant}");
        let (user, project) = rig.cloud.add_tenant(&namespace);
        rig.namespace(&namespace, &user).await?;
        let count = plan.resources / plan.tenants + u32::from(tenant < plan.resources % plan.tenants);
        let app = |_| rig.cloud.create_app(NewApp::of(&user.user_id, &project).codes(1));
        let apps: Vec<String> = (0..count).map(app).map(|app| app.app_id).collect();
        let schedule = json!({ "interval": "720h" });
        rig.rotations(&namespace, &project, apps.clone(), &schedule).await?;
        members.extend(apps.into_iter().map(|app| Member::new(&namespace, app)));
    }
    // Neighbours in line are of different users.
    let mut members: Vec<(usize, Member)> = members.into_iter().enumerate().collect();
    let of_tenant = usize::try_from(plan.resources.div_ceil(plan.tenants))?;
    members.sort_by_key(|(place, _)| (place % of_tenant, *place));
    Ok(members.into_iter().map(|(_, member)| member).collect())
}

/// Asks for rotations, orders faults and takes samples until the time is over.
async fn soak(
    plan: &Plan,
    rig: &Rig,
    operator: &Program,
    traffic: &mut Traffic,
    flame: &mut Flame<'_>,
) -> Result<Vec<Sample>> {
    let start = Instant::now();
    let mut ticks = interval(Duration::from_secs(1) / plan.rate);
    // A moment in which the machine was busy is made up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut samples = Vec::new();
    while start.elapsed() < plan.time {
        ticks.tick().await;
        if traffic.ask_next().await {
            flame.flicker();
        }
        let due = plan.every * u32::try_from(samples.len())?;
        if start.elapsed() >= due {
            let sample = Sample::take(start.elapsed(), operator, traffic, rig).await?;
            if samples.len() % 6 == 0 {
                println!("{}", sample.line());
            }
            samples.push(sample);
        }
    }
    Ok(samples)
}

async fn until_ready(rig: &Rig) -> Result<()> {
    let start = Instant::now();
    loop {
        let unready = rig.unready().await?;
        if unready.is_empty() {
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            bail!("not ready: {unready:?}");
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// Waits until every request is handled and every resource is ready.
async fn until_calm(rig: &Rig, traffic: &Traffic) -> Result<()> {
    let start = Instant::now();
    loop {
        let open = traffic.open();
        if open.is_empty() {
            return until_ready(rig).await;
        }
        if start.elapsed() > PATIENCE {
            bail!("requests were not handled: {open:?}");
        }
        // A request whose answer was lost may not have arrived; asking twice for one changes nothing.
        for member in open {
            traffic.remind(&member).await;
        }
        sleep(Duration::from_secs(5)).await;
    }
}
