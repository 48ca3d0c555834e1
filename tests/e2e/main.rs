//! The real program on a real API server, under the rights that `deploy/` gives it, against the simulated cloud.
//!
//! Each test has a control plane of its own and asserts end states, by the cloud's ledger and the Secret.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "a test says what must hold by panicking, and its name says the rest"
)]

mod again;
mod alerts;
mod canary;
mod chaos;
mod cloud;
mod consumers;
mod crash;
mod deployed;
mod events;
mod gitops;
mod helm;
mod install;
mod leader;
mod logs;
mod modes;
mod monitored;
mod overlap;
mod pages;
mod player;
mod prometheus;
mod release;
mod restricted;
mod rights;
mod runbook;
mod shown;
mod stage;
mod starved;
mod target;
mod upgrade;
mod user;
mod watched;
mod workloads;

use std::path::Path;

use serde_json::Value;

use crate::stage::Stage;

/// Short times, so that a test takes seconds; every bound keeps its order.
const FLAGS: &[&str] = &[
    "--settle-window=6s",
    "--request-deadline=2s",
    "--connect-timeout=1s",
    "--minimum-interval=7s",
    "--daily-budget=65000",
    "--check-period=8s",
    "--caller-rate=50",
    "--total-rate=200",
    "--log=trace",
];

async fn stage() -> Stage {
    stage_with(&[]).await
}

async fn stage_with(more: &[&str]) -> Stage {
    let flags = [FLAGS, more].concat();
    let mut stage = Stage::set(Path::new(env!("CARGO_BIN_EXE_appcode-operator")), &flags).await;
    stage.start_operator();
    stage
}

impl Stage {
    fn status(&self, namespace: &str, name: &str) -> Value {
        self.get(namespace, "acr", name)["status"].clone()
    }

    fn resets(&self, app: &str) -> usize {
        self.cloud.ledger().resets_applied(app)
    }

    /// Waits until the Secret holds the code that the cloud lists and the resource says `Ready`.
    async fn until_ready(&self, namespace: &str, name: &str, app: &str) {
        self.until(&format!("{namespace}/{name} is ready"), || {
            let live = self.cloud.live_codes(app);
            let code = self.code(namespace, name);
            code.is_some_and(|code| live.contains(&code)) && condition(&self.status(namespace, name), "Ready") == "True"
        })
        .await;
    }
}

fn find<'a>(status: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = status["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

/// The status of a condition; empty where there is none.
fn condition(status: &Value, kind: &str) -> String {
    find(status, kind).map_or_else(String::new, |found| found["status"].as_str().unwrap().to_owned())
}

/// Reason and message of a condition; empty where there is none.
fn message(status: &Value, kind: &str) -> String {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    find(status, kind).map_or_else(String::new, |found| {
        format!("{}: {}", text(&found["reason"]), text(&found["message"]))
    })
}
