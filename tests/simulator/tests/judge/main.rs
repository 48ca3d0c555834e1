//! Outside judges of the simulated cloud: plain HTTP clients, the vendor's SDK and the vendor's API definitions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    reason = "tests say what must hold by panicking"
)]

mod apps;
mod bench;
mod faults;
mod signing;
