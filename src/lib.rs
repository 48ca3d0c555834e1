//! Kubernetes operator that rotates app codes of Huawei Cloud ModelArts.
//!
//! The call that replaces a code kills the live one, answers once, is not idempotent and carries the secret in its URL.
//! The operator promises that no code is lost, that one trigger causes at most one effective change, that a code stands
//! in the cloud, in memory and in the target Secret only, and that status says the truth.
//!
//! # Reading order
//!
//! 1. [`api`]: the resource, what a person writes and what the operator answers;
//! 2. [`plan`]: from what was observed to the one next step, pure;
//! 3. [`controller`]: observe, plan, act, report.
//!
//! # Modules
//!
//! Pure: [`validate`] (spec to checked types), [`intent`] and [`secret`] (the log on the Secret), [`schedule`],
//! [`template`] (what else the Secret holds), [`limits`], [`status`] (the fold of a pass), [`remedy`] (the commands in
//! messages), [`workload`] (what is restarted, and how far it is), [`endpoint`], [`ids`]. At the edges: [`modelarts`] (the
//! cloud), [`verification`] (a code tried as its consumer would), [`controller`] (the API server), [`leader`] (which replica works),
//! [`clock`], [`health`], [`admin`], [`metrics`], [`traffic`] (what goes to the API server), [`telemetry`], [`args`], [`hardening`] (what the process takes from
//! itself).
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
pub mod hardening;
pub mod health;
pub mod identity;
pub mod ids;
pub mod intent;
pub mod leader;
pub mod limits;
pub mod metrics;
pub mod modelarts;
pub mod plan;
pub mod remedy;
pub mod schedule;
pub mod secret;
pub mod status;
pub mod telemetry;
pub mod template;
pub mod traffic;
pub mod validate;
pub mod verification;
pub mod workload;
