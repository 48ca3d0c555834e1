//! A real Kubernetes control plane for tests and the demo: etcd, kube-apiserver, kube-controller-manager and kubectl,
//! on a plain Debian machine without Docker.
//!
//! [`Binaries::obtain`] gets the programs, [`ControlPlane::start`] starts them on free ports of the loopback interface.
//! Several control planes run side by side. What was started ends with the [`ControlPlane`], and with the process that
//! started it however that ends: also when it is killed.
//!
//! There is no kubelet and no scheduler: pods are stored and never run. A node is what a test makes; it stays as it is
//! made, with the taint `node.kubernetes.io/not-ready` that the server gives it, until the test changes it.
//!
//! # Where the programs come from
//!
//! The first of these that has them:
//!
//! 1. the folder in `KUBEBUILDER_ASSETS`, as other tools of the field have it;
//! 2. our own cache, `${XDG_CACHE_HOME:-$HOME/.cache}/appcode-operator/control-plane/<version>`;
//! 3. the published envtest archive, and the controller manager of the same release, which the archive does not hold;
//!    without internet this is given up after a few seconds;
//! 4. Debian's packages: etcd is unpacked from one, the others are compiled from the source package `kubernetes`. This
//!    takes some ten minutes, once.
//!
//! [`Prometheus`], for tests of what the operator tells it, comes from Debian's package too, unless it is installed.
//!
//! By 3 the server is Kubernetes 1.33, by 4 it is 1.20; [`Binaries::minor`] tells. Release 1.20 knows no CEL rules in
//! custom resources, no streaming lists and no `/openapi/v3`: call kubectl with `--validate=false`, and create or
//! replace a custom resource definition that holds CEL rules instead of applying it.

mod binaries;
mod cache;
mod config;
mod error;
mod etcd;
mod manager;
mod plane;
mod process;
mod progress;
mod prometheus;
mod published;
mod ready;
mod scratch;
mod server;
mod source;

pub use binaries::Binaries;
pub use config::{Identity, Options};
pub use error::Error;
pub use plane::ControlPlane;
pub use prometheus::Prometheus;
