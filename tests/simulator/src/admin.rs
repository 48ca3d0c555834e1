//! The admin interface.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;

use crate::http::Shared;

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new().route("/ledger", get(ledger))
}

async fn ledger(axum::extract::State(shared): axum::extract::State<Arc<Shared>>) -> axum::Json<crate::Ledger> {
    axum::Json(shared.look(|cloud| cloud.ledger().clone()))
}
