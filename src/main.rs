//! The operator's program: flags, logs, clients, and then the controller until it is asked to stop.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use appcode_operator::args::Args;
use appcode_operator::clock::{Clock, SystemClock};
use appcode_operator::controller::{Cluster, Context, Health, run};
use appcode_operator::metrics::Metrics;
use appcode_operator::modelarts::{GuardedAppCodes, HttpAppCodes, MeasuredAppCodes};
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
    let client = kube::Client::try_from(config).context("the client for the API server could not be made")?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let http = HttpAppCodes::new(&args.http_options()?, Arc::clone(&clock))?;
    let metrics = Arc::new(Metrics::default());
    let measured = MeasuredAppCodes::new(Arc::new(http), Arc::clone(&clock), Arc::clone(&metrics));
    let cloud = Arc::new(GuardedAppCodes::new(
        Arc::new(measured),
        Arc::clone(&clock),
        args.guard_options(),
    ));
    let cluster = Cluster::new(client, args.api_deadline.unsigned_abs());
    let prober = Arc::new(HttpProber::new(&args.http_options()?, Arc::clone(&clock))?);
    let ctx = Arc::new(Context::new(cluster, cloud, prober, clock, settings, metrics, None));

    let shutdown = CancellationToken::new();
    stop_on_signals(shutdown.clone())?;
    let health = Arc::new(Health::default());
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
    Box::pin(run(ctx, health, shutdown)).await;
    last.cancel();
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
