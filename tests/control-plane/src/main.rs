//! Gets, shows and runs the control plane from a shell.

use std::error::Error as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use control_plane::{Binaries, ControlPlane, Error, Identity, Options, Prometheus};
use tokio::signal::unix::{SignalKind, signal};

/// A real Kubernetes control plane on this machine, without Docker.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Get the programs and Prometheus, so that a later start takes seconds.
    Prepare,
    /// Print where the programs are, getting them first if need be.
    Path,
    /// Start a control plane, print how to use it and keep it until Ctrl-C.
    Run {
        /// A user who may sign in, without any rights; `system:serviceaccount:NAMESPACE:NAME` is in the groups of a
        /// service account. May be given several times.
        #[arg(long = "identity", value_name = "USER")]
        identities: Vec<String>,
        /// Write an audit log.
        #[arg(long)]
        audit: bool,
        /// Leave out the controller manager.
        #[arg(long)]
        no_controller_manager: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Args::parse().command {
        Action::Prepare => prepare().await,
        Action::Path => Binaries::obtain().await.map(|binaries| show(&binaries)),
        Action::Run {
            identities,
            audit,
            no_controller_manager,
        } => {
            let identities = identities.iter().map(|user| identity(user)).collect();
            let controller_manager = !no_controller_manager;
            run(Options {
                identities,
                audit,
                controller_manager,
                ..Options::default()
            })
            .await
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("control-plane: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn prepare() -> Result<(), Error> {
    Binaries::obtain().await?;
    Prometheus::obtain().await?;
    Ok(())
}

fn show(binaries: &Binaries) {
    println!("# Kubernetes {}", binaries.version);
    for path in [
        &binaries.etcd,
        &binaries.apiserver,
        &binaries.controller_manager,
        &binaries.kubectl,
    ] {
        println!("{}", path.display());
    }
}

async fn run(options: Options) -> Result<(), Error> {
    let unwatched = |error| Error::Run {
        program: "the wait for signals".to_owned(),
        hint: "",
        source: error,
    };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unwatched)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(unwatched)?;
    let identities = options.identities.clone();
    let started = tokio::select! {
        started = ControlPlane::start(options) => started?,
        _ = interrupt.recv() => return Ok(()),
        _ = terminate.recv() => return Ok(()),
    };
    println!(
        "# Kubernetes {} at {}, files in {}",
        started.binaries().version,
        started.url(),
        started.dir().display()
    );
    println!("export KUBECONFIG={}", started.admin_kubeconfig().display());
    for identity in identities {
        println!(
            "# as {}: export KUBECONFIG={}",
            identity.user,
            started.kubeconfig(&identity.user)?.display()
        );
    }
    if let Some(log) = started.audit_log() {
        println!("# audit log: {}", log.display());
    }
    eprintln!("Ctrl-C ends it.");
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    started.stop().await
}

fn identity(user: &str) -> Identity {
    let account = user
        .strip_prefix("system:serviceaccount:")
        .and_then(|rest| rest.split_once(':'));
    match account {
        Some((namespace, name)) => Identity::service_account(namespace, name),
        None => Identity {
            user: user.to_owned(),
            groups: Vec::new(),
        },
    }
}
