//! A program that is measured from outside, by `/proc` and its own endpoints.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::time::sleep;

/// In how many parts of a second Linux tells CPU time, on every platform.
const TICKS_PER_SECOND: f64 = 100.0;
/// How often it is asked whether something has come about.
const STEP: Duration = Duration::from_millis(5);
/// Bound on anything that is waited for.
const PATIENCE: Duration = Duration::from_secs(600);

/// A running program; it is killed when dropped.
pub struct Program {
    child: Child,
    started: Instant,
    /// Where its output goes.
    log: PathBuf,
    /// Where it answers, if it does.
    admin: Option<SocketAddr>,
    client: reqwest::Client,
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only for a child that is already gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Program {
    /// Starts the operator against a cloud.
    pub fn operator(program: &Path, kubeconfig: &Path, cloud: &str, flags: &[&str], log: PathBuf) -> Result<Self> {
        let admin = free_address()?;
        let mut command = Command::new(program);
        command
            .args([
                "--allow-insecure-loopback".to_owned(),
                "--lease-namespace=appcode-system".to_owned(),
                format!("--admin-address={admin}"),
            ])
            .arg(format!("--allow-endpoint={cloud}={cloud}"))
            .args(flags);
        Self::spawn(command, kubeconfig, log, Some(admin))
    }

    /// Starts another program.
    pub fn other(program: &Path, arguments: &[&str], kubeconfig: &Path, log: PathBuf) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(arguments);
        Self::spawn(command, kubeconfig, log, None)
    }

    fn spawn(mut command: Command, kubeconfig: &Path, log: PathBuf, admin: Option<SocketAddr>) -> Result<Self> {
        let file = File::create(&log)?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(5))
            .build()?;
        let started = Instant::now();
        let child = command
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("{} could not be started", command.get_program().to_string_lossy()))?;
        Ok(Self {
            child,
            started,
            log,
            admin,
            client,
        })
    }

    /// Asks one of its endpoints. Returns the status and the body.
    pub async fn ask(&self, path: &str) -> Result<(u16, String)> {
        let admin = self.admin.context("it has no endpoints")?;
        let answer = self.client.get(format!("http://{admin}{path}")).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// Waits until `/readyz` says yes; returns how long that took since its start.
    pub async fn ready(&mut self) -> Result<Duration> {
        loop {
            if self.ask("/readyz").await.is_ok_and(|(status, _)| status == 200) {
                return Ok(self.started.elapsed());
            }
            self.go_on().await?;
        }
    }

    /// Waits until it has written `line`; returns how long that took since its start.
    pub async fn written(&mut self, line: &str) -> Result<Duration> {
        while !self.output().lines().any(|written| written == line) {
            self.go_on().await?;
        }
        Ok(self.started.elapsed())
    }

    /// Waits until it ends well; returns how long that took since its start.
    pub async fn ended(&mut self) -> Result<Duration> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                let took = self.started.elapsed();
                return if status.success() {
                    Ok(took)
                } else {
                    bail!("{status}: {}", self.output())
                };
            }
            sleep(STEP).await;
        }
    }

    async fn go_on(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("it ended by itself, {status}: {}", self.output());
        }
        if self.started.elapsed() > PATIENCE {
            bail!("waited in vain: {}", self.output());
        }
        sleep(STEP).await;
        Ok(())
    }

    /// Asks it to end, and waits for that.
    pub async fn stop(mut self) -> Result<()> {
        self.signal("TERM")?;
        self.gone().await
    }

    /// Sends it a signal, such as `TERM`.
    pub fn signal(&self, name: &str) -> Result<()> {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status()?;
        if !sent.success() {
            bail!("it is gone: {}", self.output());
        }
        Ok(())
    }

    /// Waits until it is gone, however it ends.
    pub async fn gone(&mut self) -> Result<()> {
        while self.child.try_wait()?.is_none() {
            sleep(STEP).await;
        }
        Ok(())
    }

    /// What it has written.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))
    }

    /// A field of `/proc/PID/status` that is a number: `VmRSS`, `RssAnon` and `VmHWM` in KiB, `Threads`.
    pub fn status(&self, field: &str) -> Result<u64> {
        let status = self.proc("status")?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let value = line.with_context(|| format!("there is no {field}"))?;
        Ok(value.trim().trim_end_matches(" kB").parse()?)
    }

    /// Seconds of CPU time that it has used, by user and kernel.
    pub fn cpu_seconds(&self) -> Result<f64> {
        let stat = self.proc("stat")?;
        // The name before may hold spaces; after it the two are the 12th and 13th.
        let (_, fields) = stat.rsplit_once(')').context("stat has no name")?;
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: Vec<f64> = ticks.map(str::parse).collect::<Result<_, _>>()?;
        Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> Result<usize> {
        Ok(std::fs::read_dir(format!("/proc/{}/fd", self.child.id()))?.count())
    }
}

/// A free port of the loopback interface.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
