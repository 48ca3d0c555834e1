//! Kubernetes operator that rotates app codes.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        reason = "a test says what must hold by panicking"
    )
)]

pub mod admin;
pub mod api;
pub mod args;
pub mod clock;
pub mod controller;
pub mod endpoint;
pub mod ids;
pub mod intent;
pub mod limits;
pub mod modelarts;
pub mod plan;
pub mod schedule;
pub mod secret;
pub mod status;
pub mod telemetry;
pub mod validate;
