//! The operator's parts together, without a cluster: one module per subject.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "a test says what must hold by panicking, and its name says the rest"
)]

mod crd;
mod docs;
mod events;
mod explore;
mod faults;
mod gitops;
mod hostile;
mod logs;
mod manifests;
mod model;
mod reconcile;
mod release;
mod soak;
mod support;
mod wire;
mod workloads;
