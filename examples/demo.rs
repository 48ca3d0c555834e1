//! A real rotation to look at: `make demo`.
//!
//! A real etcd and API server, a simulated cloud on loopback, and the operator under its own identity. Shows the first
//! rotation, one by the schedule and one by a changed `rotationTrigger`, and what an inference service answers to the
//! old code and the new one. Stays until Ctrl-C, or for `DEMO_SECONDS`; fails if no rotation happened.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    dead_code,
    reason = "a demo that cannot set its stage can only stop, and it shares the stage with the tests"
)]

#[path = "../tests/e2e/stage.rs"]
mod stage;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::json;
use stage::Stage;

const NAMESPACE: &str = "demo";
const NAME: &str = "recommender";
const FLAGS: &[&str] = &[
    "--settle-window=4s",
    "--request-deadline=3s",
    "--connect-timeout=1s",
    "--minimum-interval=5s",
    "--check-period=30s",
    "--caller-rate=20",
    "--log-format=text",
    "--log=info",
];

#[tokio::main]
async fn main() -> Result<(), String> {
    let seconds = match std::env::var("DEMO_SECONDS") {
        Ok(text) if !text.is_empty() => Some(text.parse::<u64>().map_err(|_| "DEMO_SECONDS is a number of seconds")?),
        _ => None,
    };
    let program = operator()?;
    println!("Starting etcd, the API server and a simulated cloud …");
    let mut stage = Stage::set(&program, FLAGS).await;
    let app = stage.app(1);
    stage.namespace(NAMESPACE);
    stage.start_operator();
    println!(
        "Applying an AppCodeRotation: reset the code of app {} now and every 20 seconds.\n",
        app.app_id
    );
    apply(&stage, &app.app_id, "first");

    let start = Instant::now();
    let is_over = |start: Instant| seconds.is_some_and(|seconds| start.elapsed() >= Duration::from_secs(seconds));
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let mut screen = Screen::default();
    let mut is_triggered = false;
    let mut is_told = false;
    loop {
        let rotations = stage.cloud.ledger().resets_applied(&app.app_id);
        screen.show(&picture(&stage, &app.app_id));
        if !is_triggered && rotations >= 2 {
            is_triggered = true;
            screen.say("Changing spec.rotationTrigger: one more rotation, at once when the minimum interval allows.");
            apply(&stage, &app.app_id, "second");
        }
        let is_handled = stage.get(NAMESPACE, "acr", NAME)["status"]["lastHandledTrigger"] == "second";
        if is_handled && !is_told {
            is_told = true;
            screen.say(&story(&stage));
            screen.say(&farewell(&stage));
        }
        if is_over(start) {
            let cause = if is_handled {
                Ok(())
            } else {
                Err("the changed rotationTrigger caused no rotation in time")
            };
            return judge(rotations, cause);
        }
        tokio::select! {
            _ = &mut interrupt => return judge(rotations, Ok(())),
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

fn judge(rotations: usize, cause: Result<(), &str>) -> Result<(), String> {
    if rotations == 0 {
        return Err("no rotation happened".into());
    }
    println!("\n{rotations} rotations. Everything that was started is stopped.");
    cause.map_err(str::to_owned)
}

/// The operator's program stands beside the folder of the examples.
fn operator() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = own
        .parent()
        .and_then(|examples| examples.parent())
        .ok_or("the demo stands in no folder")?;
    let program = folder.join("appcode-operator");
    if program.exists() {
        Ok(program)
    } else {
        Err("the operator is not built; run `make demo`".into())
    }
}

fn apply(stage: &Stage, app: &str, trigger: &str) {
    let more = json!({
        "initialRotation": "Immediate", "rotationTrigger": trigger, "schedule": {"interval": "20s", "jitter": "1s"},
        "target": {"name": "recommender-app-code"},
    });
    stage.apply(&stage.rotation(NAMESPACE, NAME, app, &more));
}

/// What is the case now: the resource, the Secret by its fingerprint, and what the data plane says to the codes.
fn picture(stage: &Stage, app: &str) -> String {
    let resource = stage.kubectl(&["get", "acr", "-n", NAMESPACE]);
    let secret = stage.get(NAMESPACE, "secret", "recommender-app-code");
    let print = secret["metadata"]["annotations"]["appcode.dev/fingerprint"]
        .as_str()
        .unwrap_or("none yet")
        .to_owned();
    let codes = stage.cloud.ledger().codes_ever(app);
    let answer =
        |code: Option<&String>| code.map_or("-".to_owned(), |code| stage.cloud.data_plane_status(code).to_string());
    let new = stage.code(NAMESPACE, "recommender-app-code");
    let old = new
        .as_ref()
        .and_then(|new| codes.iter().rev().find(|code| *code != new));
    format!(
        "{resource}\nSecret recommender-app-code   fingerprint {}\nInference with the old code   {}\nInference with the new code   {}",
        print.get(..16).unwrap_or(&print),
        answer(old),
        answer(new.as_ref()),
    )
}

fn story(stage: &Stage) -> String {
    let columns = "custom-columns=TYPE:.type,REASON:.reason,NOTE:.note";
    let events = stage.kubectl(&[
        "get",
        "events.v1.events.k8s.io",
        "-n",
        NAMESPACE,
        "--sort-by=.eventTime",
        "-o",
        columns,
    ]);
    format!("The story so far, as events tell it:\n\n{events}")
}

fn farewell(stage: &Stage) -> String {
    format!(
        "Try it yourself:\n\n  export KUBECONFIG={}\n  kubectl get acr -n {NAMESPACE} -o wide -w\n  kubectl describe acr {NAME} -n {NAMESPACE}\n  \
         kubectl annotate acr {NAME} -n {NAMESPACE} --overwrite appcode.dev/rotate-requested-at=\"$(date)\"\n  \
         kubectl delete secret recommender-app-code -n {NAMESPACE}\n\nThe operator's log: {}\nCtrl-C ends everything.",
        stage.plane.admin_kubeconfig().display(),
        stage.log.display()
    )
}

/// A picture that is drawn over itself on a terminal, and printed when it changes elsewhere.
#[derive(Default)]
struct Screen {
    last: String,
    lines: usize,
}

impl Screen {
    fn show(&mut self, picture: &str) {
        if std::io::stdout().is_terminal() {
            if self.lines > 0 {
                print!("\x1b[{}A\x1b[J", self.lines);
            }
            println!("{picture}");
            self.lines = picture.lines().count();
        } else {
            // Ages change each second; a line that differs in more than digits is worth printing.
            let gist: String = picture
                .chars()
                .filter(|c| !c.is_ascii_digit() && *c != ' ' && *c != 's')
                .collect();
            if gist != self.last {
                println!("{picture}\n");
                self.last = gist;
            }
        }
    }

    fn say(&mut self, text: &str) {
        println!("\n{text}\n");
        self.lines = 0;
    }
}
