//! The real reconcile on an in-memory API server and a simulated cloud.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "a test says what must hold by panicking, and its name says what it is"
)]

mod faults;
mod reconcile;
mod support;
