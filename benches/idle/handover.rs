//! How long nobody leads when the replica that does goes: from the signal until the other one leads, and until the next
//! rotation, which is asked for in that moment, is made.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use cloud_simulator::Operation;
use tokio::time::sleep;

use crate::measure::{Bench, FLAGS, median};
use crate::rig::program::Program;

/// How often it is asked whether something has come about.
const STEP: Duration = Duration::from_millis(2);
/// Bound on anything that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// The Lease's duration, which is the program's default.
const LEASE: &str = "--lease-duration=30s";

/// The end that a replica is asked for, and the one that it does not see coming.
const SIGNALS: [&str; 2] = ["TERM", "KILL"];

/// Seconds after the signal.
struct Gap {
    leads: f64,
    rotates: f64,
}

impl Bench {
    /// Hands over `ROUNDS` times by each signal and prints the gaps. Takes one app for each hand-over, and does nothing but
    /// say so if they are too few.
    pub async fn measure_handovers(&mut self, apps: &[String]) -> Result<()> {
        let needed = SIGNALS.len() * usize::try_from(self.rounds())?;
        if apps.len() < needed {
            println!(
                "\nHand-overs were not measured: they need {needed} resources that were not rotated yet, and {} are left.",
                apps.len()
            );
            return Ok(());
        }
        println!(
            "\n| hand-over with `{LEASE}`, seconds from the signal | the other one leads | it has rotated a code |\n|---|---|---|"
        );
        let mut apps = apps.iter();
        let mut leader = self.replica().await?;
        until_leads(&leader).await?;
        for signal in SIGNALS {
            let mut gaps = Vec::new();
            for _ in 0..self.rounds() {
                let standby = self.replica().await?;
                let app = apps.next().context("there are too few apps for so many hand-overs")?;
                let gap = self.hand_over(leader, &standby, signal, app).await?;
                leader = standby;
                gaps.push(gap);
            }
            let told = |of: fn(&Gap) -> f64| {
                let values: Vec<f64> = gaps.iter().map(of).collect();
                let each: Vec<String> = values.iter().map(|value| format!("{value:.2}")).collect();
                format!("{:.2} ({})", median(&values), each.join(" "))
            };
            println!(
                "| SIG{signal} | {} | {} |",
                told(|gap| gap.leads),
                told(|gap| gap.rotates)
            );
        }
        leader.stop().await
    }

    /// A replica that is ready, whether it leads or stands by.
    async fn replica(&mut self) -> Result<Program> {
        let mut replica = self.start_operator(&[&FLAGS[..], &[LEASE]].concat())?;
        replica.ready().await?;
        Ok(replica)
    }

    async fn hand_over(&self, mut leader: Program, standby: &Program, signal: &str, app: &str) -> Result<Gap> {
        let resets = self.rig.cloud.calls(Operation::Reset);
        leader.signal(signal)?;
        let start = Instant::now();
        self.ask_for_rotation(app).await?;
        until_leads(standby).await?;
        let leads = start.elapsed().as_secs_f64();
        while self.rig.cloud.calls(Operation::Reset) == resets {
            patient(start, standby).await?;
        }
        let rotates = start.elapsed().as_secs_f64();
        leader.gone().await?;
        Ok(Gap { leads, rotates })
    }
}

async fn until_leads(replica: &Program) -> Result<()> {
    let start = Instant::now();
    while replica.ask("/readyz").await?.1.trim() != "ok: leads" {
        patient(start, replica).await?;
    }
    Ok(())
}

async fn patient(start: Instant, replica: &Program) -> Result<()> {
    if start.elapsed() > PATIENCE {
        bail!("waited in vain for a hand-over: {}", replica.output());
    }
    sleep(STEP).await;
    Ok(())
}
