//! The machine has nothing left: no file descriptors, or no room for a log.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use cloud_simulator::{Fault, Operation};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use serde_json::json;
use tokio::time::timeout;

use crate::chaos::wire::{Mode, Wire};
use crate::crash::PATIENT;
use crate::stage::{Operator, PATIENCE, Stage};

/// The API server is soon found to be missing.
const IMPATIENT: &[&str] = &["--api-deadline=2s", "--watch-request=4s"];

/// What every system call says that would need one more descriptor.
const NO_MORE: &str = "Too many open files";

async fn set() -> Stage {
    let flags = [PATIENT, IMPATIENT].concat();
    let stage = Stage::set(Path::new(env!("CARGO_BIN_EXE_appcode-operator")), &flags).await;
    stage.namespace("a");
    stage
}

/// From now on the process may open so many descriptors at a time; returns how many it could before. Those that are open stay.
fn limit_descriptors(operator: &Operator, most: Option<u64>) -> Option<u64> {
    let process = i32::try_from(operator.id()).ok().and_then(Pid::from_raw).unwrap();
    let limit = Rlimit {
        current: most,
        ..getrlimit(Resource::Nofile) // it has ours
    };
    prlimit(Some(process), Resource::Nofile, limit).unwrap().current
}

/// A process that may open no descriptor, and has lost its connections to the API server.
struct Starved<'a> {
    operator: &'a Operator,
    wire: &'a Wire,
    before: Option<u64>,
}

impl<'a> Starved<'a> {
    fn of(operator: &'a Operator, wire: &'a Wire) -> Self {
        let before = limit_descriptors(operator, Some(3)); // stdin, stdout and stderr
        wire.set(Mode::Cut);
        Self { operator, wire, before }
    }

    fn end(self) {
        self.wire.set(Mode::Pass);
        limit_descriptors(self.operator, self.before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_descriptor_left_before_a_reset_or_before_its_code_is_saved_costs_no_code_and_no_reset() {
    let stage = set().await;
    let server = stage.plane.url().trim_start_matches("https://").parse().unwrap();
    let wire = Wire::to(server).await.unwrap();
    let operator = stage.run_operator(&stage.kubeconfig_by("wired", &wire.address().to_string()));
    let app = stage.app(1);
    stage.apply(&stage.rotation("a", "one", &app.app_id, &json!({})));
    stage.until_ready("a", "one", &app.app_id).await;
    // A connection that is open already still tells what is missing.
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let ready = format!("http://{}/readyz", stage.admin_address());
    let answer = http.get(&ready).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.text().await.unwrap(); // so that the connection is kept
    let lacks = || stage.log_text().matches(NO_MORE).count();

    // Nobody can be asked for a proven write, so nothing is reset.
    let starved = Starved::of(&operator, &wire);
    stage.apply(&stage.rotation("a", "one", &app.app_id, &json!({"rotationTrigger": "x"})));
    stage.until("the lack is told", || lacks() > 0).await;
    let is_missed = async {
        while http.get(&ready).send().await.unwrap().status() != 503 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(PATIENCE, is_missed)
        .await
        .expect("readiness tells that something is missing");
    assert_eq!(stage.resets(&app.app_id), 0);

    // The answer comes and its code cannot be saved.
    let held = stage.cloud.inject(Fault::hold().at(Operation::Reset).once());
    starved.end();
    stage
        .until("the reset is done", || stage.resets(&app.app_id) == 1)
        .await;
    let before = lacks();
    let starved = Starved::of(&operator, &wire);
    assert_eq!(stage.cloud.release(held), 1, "the call is still waiting for its answer");
    stage.until("saving is tried again", || lacks() > before + 2).await;
    assert_eq!(stage.code("a", "one").as_ref(), app.codes.first(), "the dead one");

    starved.end();
    let live = stage.cloud.live_codes(&app.app_id);
    stage
        .until("the code is saved", || stage.code("a", "one").as_ref() == live.first())
        .await;
    stage
        .until("the request is handled", || {
            stage.status("a", "one")["lastHandledTrigger"] == "x"
        })
        .await;
    assert_eq!(stage.resets(&app.app_id), 1);
    assert!(!stage.log_text().contains("panicked"), "{}", stage.last_words());
    operator.signal("TERM");
    assert_eq!(operator.wait(), Some(0), "it never ended meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_on_a_full_disk_keeps_nothing_from_being_rotated_once() {
    let stage = set().await;
    let full = File::options().write(true).open("/dev/full").unwrap();
    let operator = stage.run_operator_into(full);
    let app = stage.app(1);
    stage.apply(&stage.rotation("a", "one", &app.app_id, &json!({})));
    stage.until_ready("a", "one", &app.app_id).await;
    // What fails is told as well.
    stage.cloud.inject(Fault::status_before(503).at(Operation::Show).once());
    stage.apply(&stage.rotation("a", "one", &app.app_id, &json!({"rotationTrigger": "x"})));
    stage
        .until("the trigger is handled", || {
            stage.status("a", "one")["lastHandledTrigger"] == "x"
        })
        .await;
    assert_eq!(stage.resets(&app.app_id), 1);
    assert_eq!(
        stage.code("a", "one"),
        stage.cloud.live_codes(&app.app_id).first().cloned()
    );
    operator.signal("TERM");
    assert_eq!(operator.wait(), Some(0));
}
