//! kube-controller-manager: garbage collection, the end of namespaces, service accounts, workloads and their pods.

use std::path::Path;
use std::process::Command;

use crate::config::setting;
use crate::process::Program;
use crate::server::Server;
use crate::{Binaries, Error, ready};

const NAME: &str = "kube-controller-manager";

/// Starts the controller manager and waits until it works.
pub(crate) async fn start(
    binaries: &Binaries,
    dir: &Path,
    kubeconfig: &Path,
    server: &Server,
) -> Result<Program, Error> {
    let mut command = Command::new(&binaries.controller_manager);
    command
        .arg(setting("kubeconfig", kubeconfig))
        .arg(setting(
            "service-account-private-key-file",
            &dir.join("service-accounts.key"),
        ))
        .arg(setting("root-ca-file", &dir.join("ca.crt")))
        // It is the only one, and nobody asks it anything.
        .args([
            "--leader-elect=false",
            "--secure-port=0",
            "--use-service-account-credentials=false",
            // All but the one that looks after nodes: no kubelet reports for a node that a test makes, so it would take it
            // for lost, and its pods for not ready.
            "--controllers=*,-nodelifecycle",
        ]);
    if binaries.minor().is_some_and(|minor| minor < 24) {
        // Until then it had a second port, open to all, which several on one machine would fight over.
        command.arg("--port=0");
    }
    let mut manager = Program::spawn(NAME, &command, dir.join("kube-controller-manager.log"))?;
    // One of its first acts.
    ready::wait(&mut manager, || {
        server.is_ok("/api/v1/namespaces/default/serviceaccounts/default")
    })
    .await?;
    Ok(manager)
}
