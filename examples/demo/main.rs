//! A real rotation to look at: `make demo`.
//!
//! Starts a real etcd and kube-apiserver, a simulated cloud on loopback and the operator's own program under its own
//! identity, applies an `AppCodeRotation`, and shows what happens: on a terminal one screen that renews itself, elsewhere
//! a line for each thing that happens. It changes `rotationTrigger` once, and once more with `strategy: Overlap`. It stays
//! until Ctrl-C; with `DEMO_SECONDS` set it ends by itself, and fails if the rotations that were due did not happen.

mod manifests;
mod observe;
mod screen;
mod stage;
mod story;
mod tools;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use appcode_operator::api::Strategy;
use tokio::signal::unix::{SignalKind, signal};

use crate::observe::Observer;
use crate::screen::Screen;
use crate::stage::Stage;
use crate::story::Story;

/// How long a rotation is left on the screen before the trigger is changed.
const TRIGGER_AFTER: Duration = Duration::from_secs(8);
const TICK: Duration = Duration::from_millis(700);

fn main() -> ExitCode {
    match run() {
        Ok(Ending::InTime) => ExitCode::SUCCESS,
        Ok(Ending::Interrupted) => ExitCode::from(130),
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How the demo came to its end.
enum Ending {
    /// As was wanted.
    InTime,
    /// Before its time was up.
    Interrupted,
}

#[tokio::main(worker_threads = 2)]
async fn run() -> Result<Ending> {
    let limit = limit(std::env::var("DEMO_SECONDS").ok().as_deref())?;
    let program = tools::operator()?;
    let interrupted = interruption()?;
    tokio::pin!(interrupted);

    eprintln!("Starting etcd, kube-apiserver, the simulated cloud and the operator ...");
    let stage = tokio::select! {
        stage = Stage::set(&program) => stage?,
        () = &mut interrupted => return Ok(Ending::Interrupted),
    };
    let ending = show(&stage, limit, interrupted).await;
    eprintln!("\nStopping everything that was started ...");
    let struck = stage.strike().await;
    // What went wrong first matters more.
    let ending = ending?;
    struck?;
    Ok(ending)
}

fn limit(text: Option<&str>) -> Result<Option<Duration>> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
    let seconds =
        seconds.with_context(|| format!("DEMO_SECONDS={text} is not a whole number of seconds above zero"))?;
    Ok(Some(Duration::from_secs(seconds)))
}

/// Resolves once somebody wants the demo to end: Ctrl-C, `kill`, or a closed terminal.
fn interruption() -> Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

async fn show(stage: &Stage, limit: Option<Duration>, interrupted: impl Future<Output = ()>) -> Result<Ending> {
    tokio::pin!(interrupted);
    stage.apply_rotation("first", Strategy::Reset)?;
    let start = Instant::now();
    let mut observer = Observer::new(stage)?;
    let mut story = Story::new(start, limit);
    let mut screen = Screen::open(stage.guide());
    let ending = loop {
        stage.check_operator()?;
        let scene = observer.look().await?;
        story.follow(&scene);
        if let Some((trigger, strategy)) = story.next_act(TRIGGER_AFTER) {
            stage.apply_rotation(trigger, strategy)?;
        }
        screen.show(&scene, &story);
        if story.is_over() {
            break Ending::InTime;
        }
        tokio::select! {
            () = &mut interrupted => break if limit.is_some() { Ending::Interrupted } else { Ending::InTime },
            () = tokio::time::sleep(TICK) => {}
        }
    };
    screen.close();
    println!("\nThe story, as the events of the resource tell it:\n");
    for event in stage.events()? {
        println!("{}", screen::told(&event));
    }
    let made = stage.made();
    if limit.is_some()
        && matches!(ending, Ending::InTime)
        && let Err(problem) = story.judge(made)
    {
        bail!("{problem}\n{}", stage.log_tail());
    }
    println!("\nRotations counted by the simulated cloud: {made}.");
    Ok(ending)
}
