//! Whether anything was lost, by the cloud's ledger and the Secrets; the operator is not asked.

use std::collections::{BTreeSet, HashMap, HashSet};

use anyhow::{Result, bail};
use cloud_simulator::{Cause, Change, Ledger};

use crate::rig::Rig;
use crate::traffic::Traffic;

/// What the ledger says of one app.
#[derive(Default)]
struct App<'a> {
    live: BTreeSet<&'a str>,
    /// Place of each code in the order in which they were made.
    ages: HashMap<&'a str, usize>,
    resets: HashSet<u64>,
}

/// Holds what was asked for against what was done, once all is at rest.
///
/// # Errors
/// When a live code is in no Secret, a Secret holds a dead code or once went back to an older one, or the resets of an app
/// are not as many as its requests.
pub fn judge(rig: &Rig, traffic: &Traffic) -> Result<String> {
    let ledger = rig.cloud.ledger();
    let apps = apps(&ledger);
    let mut wrong = Vec::new();
    let (mut resets, mut seen) = (0, 0);
    for member in &traffic.members {
        let kept = traffic.kept(member);
        let Some(app) = apps.get(member.app.as_str()) else {
            wrong.push(format!("{}: the ledger does not know it", member.app));
            continue;
        };
        let held: BTreeSet<&str> = kept.codes.last().map(String::as_str).into_iter().collect();
        if held != app.live {
            wrong.push(format!("{}: its Secret does not hold its only live code", member.app));
        }
        let ages: Vec<_> = kept.codes.iter().map(|code| app.ages.get(code.as_str())).collect();
        if ages.contains(&None) || !ages.is_sorted_by(|older, newer| older < newer) {
            wrong.push(format!(
                "{}: its Secret went back to an older code, or held a foreign one",
                member.app
            ));
        }
        let asked = traffic.asked(member);
        if app.resets.len() != asked {
            wrong.push(format!(
                "{}: {} resets for {asked} requests",
                member.app,
                app.resets.len()
            ));
        }
        resets += app.resets.len();
        seen += kept.codes.len();
    }
    if wrong.is_empty() {
        let asked = traffic.told().asked;
        return Ok(format!(
            "{resets} resets for {asked} requests, {seen} codes seen in Secrets, none lost"
        ));
    }
    bail!("{}", wrong.join("\n"))
}

fn apps(ledger: &Ledger) -> HashMap<&str, App<'_>> {
    let mut apps: HashMap<&str, App<'_>> = HashMap::new();
    for effect in &ledger.effects {
        let app = apps.entry(effect.app.as_str()).or_default();
        match effect.change {
            Change::Made => {
                let age = app.ages.len();
                app.ages.insert(&effect.code, age);
                app.live.insert(&effect.code);
            }
            Change::Removed => {
                app.live.remove(effect.code.as_str());
            }
        }
        if effect.cause == Cause::Reset {
            app.resets.insert(effect.act);
        }
    }
    apps
}
