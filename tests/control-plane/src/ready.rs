//! Waiting until a program that was started serves.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::Error;
use crate::process::Program;

/// How often a program gets another port when its own was taken between our choice and its start.
pub(crate) const PORT_ATTEMPTS: usize = 5;

/// Far beyond the seconds that it takes, as a machine that compiles at the same time is slow.
const PATIENCE: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(50);
/// A server that hangs in its start must not hang the poll.
const ANSWER: Duration = Duration::from_secs(5);

/// Polls until the program is ready; fails as soon as it has ended.
pub(crate) async fn wait<F: Future<Output = bool>>(
    program: &mut Program,
    is_ready: impl Fn() -> F,
) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        program.check()?;
        if is_ready().await {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(program.failure(format!("is not ready after {} seconds", PATIENCE.as_secs())));
        }
        sleep(POLL).await;
    }
}

/// A port that was free a moment ago, as the kernel chose it.
pub(crate) fn free_port() -> Result<u16, Error> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound
        .map(|address| address.port())
        .map_err(Error::file("find a free port by", Path::new("127.0.0.1:0")))
}

/// Whether a program ended because someone else had its port, which another port cures.
pub(crate) fn is_port_taken(error: &Error) -> bool {
    matches!(error, Error::Program { tail, .. } if tail.contains("address already in use"))
}

/// A client for the loopback interface, which no proxy of the environment may get between. With an authority only a
/// server that proves itself by it is believed.
pub(crate) fn client(authority: Option<&str>) -> reqwest::Result<reqwest::Client> {
    let builder = reqwest::Client::builder().no_proxy().timeout(ANSWER);
    match authority {
        None => builder.build(),
        Some(pem) => builder
            .tls_certs_only([reqwest::Certificate::from_pem(pem.as_bytes())?])
            .build(),
    }
}
