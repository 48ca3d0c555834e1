//! `/livez` and `/readyz`.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::controller::Health;

/// Answers until `shutdown`.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(listener: TcpListener, health: Arc<Health>, shutdown: CancellationToken) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(health);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

async fn ready(State(health): State<Arc<Health>>) -> (StatusCode, &'static str) {
    if !health.is_ready() {
        (StatusCode::SERVICE_UNAVAILABLE, "the resources are not listed yet\n")
    } else if !health.is_watching() {
        (StatusCode::SERVICE_UNAVAILABLE, "the watch is down\n")
    } else {
        (StatusCode::OK, "ok\n")
    }
}
