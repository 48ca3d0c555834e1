//! The simulated cloud as a program: serves until Ctrl-C, prints what it holds.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use cloud_simulator::{Options, Seed, Simulator};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

const ABOUT: &str = "A local stand-in for Huawei Cloud ModelArts app authentication, IAM and the inference gateway";

const MORE: &str = r#"
One plain-http origin on a loopback port serves everything. Standard output gets one JSON object: the URL, and the
projects, users, keys, apps and codes to start with. Everything else is arranged and looked at under /_admin:

  curl -s $URL/_admin                   all routes and kinds of faults
  curl -s $URL/_admin/ledger            every request and effect so far
  curl -s $URL/_admin/faults -d '{"kind":"cut-after","at":["reset"],"times":1}'

It gives its secrets to whoever asks, and is for tests and nothing else. Ctrl-C ends it.

A seed file for --seed-file; an account needs a name and users, an app its user, the rest may be left out:

  {"accounts": [{"name": "acme", "projects": ["cn-north-4"], "users": [{"name": "ops", "password": "..."}]}],
   "apps": [{"user": "ops", "project": "cn-north-4", "name": "app_one", "type": "APIG", "codes": 2}],
   "faults": [{"kind": "latency", "millis": 200}],
   "behaviour": {"gatewayPrefix": "APIG"}}"#;

#[derive(Debug, Parser)]
#[command(version, about = ABOUT, after_help = MORE)]
struct Args {
    /// Address to listen on, loopback only; port 0 takes a free one.
    #[arg(long, env = "CLOUD_SIMULATOR_LISTEN", default_value = "127.0.0.1:0")]
    listen: SocketAddr,

    /// Number that decides every id, key and code.
    #[arg(long, env = "CLOUD_SIMULATOR_SEED", default_value_t = 0)]
    seed: u64,

    /// JSON file that tells what to start with; see below.
    #[arg(
        long,
        env = "CLOUD_SIMULATOR_SEED_FILE",
        value_name = "FILE",
        conflicts_with = "demo"
    )]
    seed_file: Option<PathBuf>,

    /// Start with one user and one app that has one code.
    #[arg(long)]
    demo: bool,

    /// What to log on standard error: a level, or a filter such as cloud_simulator=debug.
    #[arg(long, env = "CLOUD_SIMULATOR_LOG", default_value = "info")]
    log: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&args.log))
        .with_writer(std::io::stderr)
        .init();
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("cloud-simulator: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> Result<(), String> {
    let seed = match &args.seed_file {
        Some(path) => read_seed(path)?,
        None if args.demo => Seed::demo(),
        None => Seed::default(),
    };
    let options = Options {
        listen: args.listen,
        seed: args.seed,
        ..Options::default()
    };
    let failed = |error: std::io::Error| format!("cannot serve on {}: {error}", args.listen);
    let mut terminated = signal(SignalKind::terminate()).map_err(failed)?;
    let simulator = Simulator::start(options).await.map_err(failed)?;
    let grown = seed.grow(&simulator)?;
    let told = json!({
        "url": simulator.url(), "projects": grown.projects, "workspaces": grown.workspaces, "users": grown.users,
        "apps": grown.apps, "faults": grown.faults,
    });
    println!("{told:#}");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
    simulator.stop().await;
    Ok(())
}

fn read_seed(path: &PathBuf) -> Result<Seed, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{} is no seed file: {error}", path.display()))
}
