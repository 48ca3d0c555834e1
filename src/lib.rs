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

pub mod clock;
pub mod endpoint;
pub mod ids;
pub mod limits;
pub mod modelarts;
