//! The operator's program: flags, logs, clients, and then the controller until it is asked to stop.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use appcode_operator::args::Args;
use appcode_operator::clock::{Clock, SystemClock};
use appcode_operator::controller::{Cluster, Context, run};
use appcode_operator::health::Health;
use appcode_operator::leader::{Election, Leadership};
use appcode_operator::metrics::Metrics;
use appcode_operator::modelarts::{GuardedAppCodes, HttpAppCodes, MeasuredAppCodes};
use appcode_operator::traffic::Traffic;
use appcode_operator::verification::HttpProber;
use appcode_operator::{admin, hardening, telemetry};
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How long `--ask-ready` asks: a pod that has just been made is being started.
const READY_WITHIN: Duration = Duration::from_secs(60);

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    hardening::forbid_core_dumps().context("core dumps could not be turned off")?;
    let args = Args::parse();
    if let Some(address) = &args.ask_ready {
        return Ok(admin::ask_ready(address, READY_WITHIN)?);
    }
    telemetry::start(args.log_format, &args.log, args.log_from.clone()).context("--log cannot be read")?;
    let settings = args.settings()?;

    let mut config = kube::Config::infer()
        .await
        .context("no API server was found: no service account, no KUBECONFIG")?;
    config.default_retry = false; // up to 15 repeats, in minutes: a code would wait in memory behind them
    // A connection that brings nothing for longer than a watch may last is dead.
    config.read_timeout = Some(settings.watch_request + args.api_deadline.unsigned_abs());
    let lease_namespace = args
        .lease_namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let health = Arc::new(Health::new(
        Arc::clone(&clock),
        &settings.namespaces,
        settings.watch_request,
    ));
    let metrics = Arc::new(Metrics::default());
    let traffic = Traffic {
        metrics: Arc::clone(&metrics),
        health: Arc::clone(&health),
        clock: Arc::clone(&clock),
    };
    let client = kube::client::ClientBuilder::try_from(config)
        .context("the client for the API server could not be made")?
        .with_layer(&traffic)
        .build();
    let http = HttpAppCodes::new(&args.http_options()?, Arc::clone(&clock), Arc::clone(&metrics))?;
    let measured = MeasuredAppCodes::new(Arc::new(http), Arc::clone(&clock), Arc::clone(&metrics));
    let cloud = Arc::new(GuardedAppCodes::new(
        Arc::new(measured),
        Arc::clone(&clock),
        args.guard_options(),
        Arc::clone(&metrics),
    ));
    let cluster = Cluster::new(client.clone(), args.api_deadline.unsigned_abs());
    let prober = Arc::new(HttpProber::new(&args.http_options()?, Arc::clone(&clock))?);
    // What no earlier process of this pod was called: the Lease of one that was killed is not ours.
    let replica = format!("{}_{:08x}", settings.instance, rand::random::<u32>());
    let mut ctx = Context::new(cluster, cloud, prober, Arc::clone(&clock), settings, metrics, None);
    // A process that is the only one leads from the start.
    let election = args.leader_election.then(|| {
        ctx.leadership = Leadership::new(Arc::clone(&clock));
        let lease = (lease_namespace.as_str(), args.lease_name.as_str());
        let (times, leadership) = (args.lease_times(), ctx.leadership.clone());
        Election::new(client, lease, replica, times, clock, leadership, Arc::clone(&health))
    });
    let ctx = Arc::new(ctx);

    let shutdown = CancellationToken::new();
    stop_on_signals(shutdown.clone())?;
    let listener = TcpListener::bind(args.admin_address)
        .await
        .context("--admin-address cannot be bound")?;
    // The endpoints answer until the last code is saved: a pod that goes quiet early may be killed early.
    let last = CancellationToken::new();
    let address = listener.local_addr()?;
    let admin = tokio::spawn(admin::serve(
        listener,
        Arc::clone(&ctx),
        Arc::clone(&health),
        last.clone(),
    ));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), admin = %address, "started");
    let elected = election.map(|election| tokio::spawn(election.run(last.clone())));
    if let Some(elected) = &elected {
        ctx.rest_on(elected.abort_handle());
    }
    Box::pin(run(ctx, health, shutdown)).await;
    last.cancel();
    // Another replica takes over at once, now that all is saved.
    if let Some(elected) = elected {
        elected.await?;
    }
    admin.await??;
    tracing::info!("stopped");
    Ok(())
}

/// The first SIGTERM or SIGINT asks to stop.
fn stop_on_signals(shutdown: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to stop: no change is started any more, what has started is carried through");
        shutdown.cancel();
    });
    Ok(())
}
