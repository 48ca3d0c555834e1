//! The store behind the server.

use std::path::Path;
use std::process::Command;

use crate::config::{random_token, setting};
use crate::process::Program;
use crate::ready::{self, PORT_ATTEMPTS};
use crate::{Binaries, Error};

const NAME: &str = "etcd";

/// Starts etcd on a free port, waits until it answers and gives its address.
pub(crate) async fn start(binaries: &Binaries, dir: &Path) -> Result<(Program, String), Error> {
    for attempt in 1..=PORT_ATTEMPTS {
        let url = format!("http://127.0.0.1:{}", ready::free_port()?);
        // By this name we know that it is ours that answers, and not someone else's on a port that both wanted.
        let member = random_token()?;
        // It has no peers, so the address that they would use is never called.
        let peer = "http://127.0.0.1:1";
        let mut command = Command::new(&binaries.etcd);
        command
            .arg(format!("--name={member}"))
            .arg(setting("data-dir", &dir.join(format!("etcd-{attempt}"))))
            .args([
                format!("--listen-client-urls={url}"),
                format!("--advertise-client-urls={url}"),
            ])
            .args([
                "--listen-peer-urls=http://127.0.0.1:0",
                &format!("--initial-advertise-peer-urls={peer}"),
            ])
            .arg(format!("--initial-cluster={member}={peer}"))
            // Nothing here must outlive a power cut.
            .arg("--unsafe-no-fsync=true");
        let mut etcd = Program::spawn(NAME, &command, dir.join(format!("etcd-{attempt}.log")))?;
        match ready::wait(&mut etcd, || is_member(&url, &member)).await {
            Ok(()) => return Ok((etcd, url)),
            Err(error) if ready::is_port_taken(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::Ports { program: NAME })
}

async fn is_member(url: &str, name: &str) -> bool {
    let ask = async || {
        ready::client(None)?
            .post(format!("{url}/v3/cluster/member/list"))
            .body("{}")
            .send()
            .await?
            .text()
            .await
    };
    ask().await.is_ok_and(|members| members.contains(name))
}
