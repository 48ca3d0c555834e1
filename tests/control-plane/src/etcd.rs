//! The store behind the server.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::config::{random_token, setting};
use crate::process::Program;
use crate::ready::{self, PORT_ATTEMPTS};
use crate::{Binaries, Error};

const NAME: &str = "etcd";

#[derive(Debug)]
pub(crate) struct Etcd {
    running: Option<Program>,
    program: PathBuf,
    dir: PathBuf,
    /// Which of the folders in `dir` is its own; a member whose port was taken has left another.
    number: usize,
    url: String,
    /// By this name we know that it is ours that answers, and not someone else's on a port that both wanted.
    member: String,
}

impl Etcd {
    /// Starts etcd on a free port and waits until it answers.
    pub(crate) async fn start(binaries: &Binaries, dir: &Path) -> Result<Self, Error> {
        for number in 1..=PORT_ATTEMPTS {
            let mut etcd = Self {
                running: None,
                program: binaries.etcd.clone(),
                dir: dir.to_path_buf(),
                number,
                url: format!("http://127.0.0.1:{}", ready::free_port()?),
                member: random_token()?,
            };
            if etcd.try_start().await? {
                return Ok(etcd);
            }
        }
        Err(Error::Ports { program: NAME })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn stop(&mut self) {
        self.running = None;
    }

    /// Starts it on its old port and with its old data, unless it runs.
    pub(crate) async fn start_again(&mut self) -> Result<(), Error> {
        for _ in 0..PORT_ATTEMPTS {
            if self.running.is_some() || self.try_start().await? {
                return Ok(());
            }
        }
        Err(Error::Ports { program: NAME })
    }

    /// Forgets every revision but the present one.
    pub(crate) async fn compact(&self) -> Result<(), Error> {
        let status = self.ask("maintenance/status", &json!({})).await?;
        // It writes 64-bit numbers as text, and takes them so.
        let revision = status.pointer("/header/revision").unwrap_or(&Value::Null);
        let answer = self
            .ask("kv/compaction", &json!({"revision": revision, "physical": true}))
            .await?;
        match answer.get("error") {
            None => Ok(()),
            Some(said) => Err(Error::Unexpected(format!("etcd did not compact to {revision}: {said}"))),
        }
    }

    /// Takes no writes from now on, as when its quota is used up; or takes them again.
    ///
    /// The alarm is the one that etcd raises by itself then, and all that keeps writes off: whoever has made room has to
    /// lower it too.
    pub(crate) async fn set_full(&self, is_full: bool) -> Result<(), Error> {
        let action = if is_full { "ACTIVATE" } else { "DEACTIVATE" };
        let alarm = json!({"action": action, "memberID": "1", "alarm": "NOSPACE"});
        let answer = self.ask("maintenance/alarm", &alarm).await?;
        match answer.get("error") {
            None => Ok(()),
            Some(said) => Err(Error::Unexpected(format!("etcd did not {action} its alarm: {said}"))),
        }
    }

    async fn ask(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let ask = async || {
            let request = ready::client(None)?.post(format!("{}/v3/{path}", self.url));
            request.json(body).send().await?.json().await
        };
        let failed = |error: reqwest::Error| Error::Unexpected(format!("etcd did not answer to {path}: {error}"));
        ask().await.map_err(failed)
    }

    /// Whether it started; if not, its port was taken.
    async fn try_start(&mut self) -> Result<bool, Error> {
        // It has no peers, so the address that they would use is never called.
        let peer = "http://127.0.0.1:1";
        let name = format!("etcd-{}", self.number);
        let mut command = Command::new(&self.program);
        command
            .arg(format!("--name={}", self.member))
            .arg(setting("data-dir", &self.dir.join(&name)))
            .args([
                format!("--listen-client-urls={}", self.url),
                format!("--advertise-client-urls={}", self.url),
            ])
            .args([
                "--listen-peer-urls=http://127.0.0.1:0",
                &format!("--initial-advertise-peer-urls={peer}"),
            ])
            .arg(format!("--initial-cluster={}={peer}", self.member))
            // Nothing here must outlive a power cut.
            .arg("--unsafe-no-fsync=true");
        let mut program = Program::spawn(NAME, &command, self.dir.join(format!("{name}.log")))?;
        match ready::wait(&mut program, || self.is_up()).await {
            Ok(()) => {
                self.running = Some(program);
                Ok(true)
            }
            Err(error) if ready::is_port_taken(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn is_up(&self) -> bool {
        let members = self.ask("cluster/member/list", &json!({})).await;
        members.is_ok_and(|members| members.to_string().contains(&self.member))
    }
}
