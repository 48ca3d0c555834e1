//! Everything that the demo starts, and how it ends again.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use appcode_operator::api::{AppCodeRotation, Strategy};
use cloud_simulator::{App, Cause, Seed, Simulator};
use control_plane::{ControlPlane, Identity};
use k8s_openapi::api::events::v1::Event;
use kube::CustomResourceExt;
use serde_json::Value;

use crate::manifests::{self, NAME, NAMESPACE, OPERATOR, SECRET};
use crate::tools::output;

/// Short times, so that there is something to see.
const FLAGS: &[&str] = &[
    "--allow-insecure-loopback",
    "--lease-namespace=appcode-system",
    "--settle-window=4s",
    "--request-deadline=2s",
    "--connect-timeout=1s",
    "--minimum-interval=5s",
    "--daily-budget=65000",
    "--check-period=30s",
    "--caller-rate=20",
    "--total-rate=50",
    "--log-format=text",
];

/// The running demo. Dropping it ends everything, killing what does not end by itself.
pub struct Stage {
    // Fields are dropped in this order: who calls goes before who is called.
    operator: Mutex<Operator>,
    plane: ControlPlane,
    cloud: Simulator,
    app: App,
    log: PathBuf,
}

impl Stage {
    /// Starts everything and prepares the cluster, up to the resource itself.
    pub async fn set(program: &Path) -> Result<Self> {
        let cloud = Simulator::start(cloud_simulator::Options::default())
            .await
            .context("the simulated cloud did not start")?;
        let grown = Seed::demo().grow(&cloud).map_err(anyhow::Error::msg)?;
        let (app, user) = grown
            .apps
            .into_iter()
            .next()
            .zip(grown.users.into_iter().next())
            .context("the cloud is empty")?;
        let (namespace, name) = OPERATOR;
        let identity = Identity::service_account(namespace, name);
        let user_name = identity.user.clone();
        let options = control_plane::Options {
            identities: vec![identity],
            ..control_plane::Options::default()
        };
        let plane = ControlPlane::start(options)
            .await
            .context("the control plane did not start")?;

        let crd = serde_json::to_string(&AppCodeRotation::crd())?;
        // An old server refuses to apply a definition with CEL rules and takes it when it is created.
        kubectl(&plane, &["create", "--validate=false", "-f", "-"], &crd)?;
        kubectl(
            &plane,
            &[
                "wait",
                "--for=condition=Established",
                "--timeout=60s",
                "crd/appcoderotations.appcode.dev",
            ],
            "",
        )?;
        apply(&plane, &manifests::installation()?)?;
        apply(&plane, &manifests::tenant(&user.ak, &user.sk).to_string())?;

        let log = plane.dir().join("operator.log");
        let operator = Operator::start(program, plane.kubeconfig(&user_name)?, &cloud.url(), &log)?;
        Ok(Self {
            operator: Mutex::new(operator),
            plane,
            cloud,
            app,
            log,
        })
    }

    /// Applies the resource with this `rotationTrigger` and strategy.
    pub fn apply_rotation(&self, trigger: &str, strategy: Strategy) -> Result<()> {
        let (url, app) = (self.cloud.url(), &self.app);
        let resource = manifests::rotation(&url, &app.project_id, &app.app_id, trigger, strategy);
        apply(&self.plane, &resource.to_string())
    }

    /// The app whose code is rotated, as it was at first.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Origin of the cloud, which is also that of its inference services.
    pub fn cloud_url(&self) -> String {
        self.cloud.url()
    }

    /// How often the cloud has made a new code, in the place of another or beside it.
    pub fn made(&self) -> usize {
        let ledger = self.cloud.ledger();
        ledger.resets_applied(&self.app.app_id) + ledger.acts_applied(&self.app.app_id, Cause::Add)
    }

    /// The resource and its Secret as far as they exist.
    pub fn objects(&self) -> Result<String> {
        let resource = format!("appcoderotations/{NAME}");
        let secret = format!("secrets/{SECRET}");
        let get = [
            "get",
            &resource,
            &secret,
            "-n",
            NAMESPACE,
            "--ignore-not-found",
            "-o",
            "json",
        ];
        kubectl(&self.plane, &get, "")
    }

    /// What the operator told about the resource, oldest first.
    pub fn events(&self) -> Result<Vec<Event>> {
        let chosen = format!("regarding.name={NAME}");
        let kind = "events.v1.events.k8s.io";
        let get = ["get", kind, "-n", NAMESPACE, "--field-selector", &chosen, "-o", "json"];
        let mut found: Value = serde_json::from_str(&kubectl(&self.plane, &get, "")?)?;
        let items = found.get_mut("items").map(Value::take).unwrap_or_default();
        let mut events: Vec<Event> = serde_json::from_value(items)?;
        events.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        Ok(events)
    }

    /// An error if the operator has ended.
    pub fn check_operator(&self) -> Result<()> {
        let status = self
            .operator
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .child
            .try_wait()?;
        if let Some(status) = status {
            bail!("the operator ended with {status}\n{}", self.log_tail());
        }
        Ok(())
    }

    /// The end of the operator's log, which goes with everything else.
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(15)..).unwrap_or_default();
        format!("The end of the operator's log:\n  {}", tail.join("\n  "))
    }

    /// What a person can try, and where things are.
    pub fn guide(&self) -> Guide {
        let program = &self.plane.binaries().kubectl;
        let on_path = std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join("kubectl").is_file()));
        Guide {
            app: self.app.app_id.clone(),
            release: self.plane.binaries().minor().map(|minor| format!("1.{minor}")),
            kubeconfig: self.plane.admin_kubeconfig().display().to_string(),
            kubectl: (!on_path).then(|| program.display().to_string()),
            log: self.log.display().to_string(),
        }
    }

    /// Ends everything in order.
    pub async fn strike(self) -> Result<()> {
        drop(self.operator);
        self.plane.stop().await?;
        self.cloud.stop().await;
        Ok(())
    }
}

/// What the screen tells about the stage.
pub struct Guide {
    /// Id of the app.
    pub app: String,
    /// Release of the API server.
    pub release: Option<String>,
    /// The administrator's kubeconfig.
    pub kubeconfig: String,
    /// The control plane's own kubectl, for a machine that has none.
    pub kubectl: Option<String>,
    /// The operator's log.
    pub log: String,
}

/// The operator's program.
struct Operator {
    child: Child,
}

impl Operator {
    /// Must be called on a thread that lasts: the kernel ends the program with the thread that started it.
    fn start(program: &Path, kubeconfig: &Path, cloud: &str, log: &Path) -> Result<Self> {
        let out = File::create(log).with_context(|| format!("{} cannot be written", log.display()))?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(FLAGS);
        command.arg(format!("--allow-endpoint={cloud}={cloud}"));
        command.arg(format!("--admin-address={}", free_address()?));
        // Whatever the shell has set for another operator is not for this one.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("APPCODE_")) {
            command.env_remove(name);
        }
        // Ctrl-C is ours to heed: it is ended in order, before the API server.
        command.process_group(0);
        command.env("KUBECONFIG", kubeconfig).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        let child = command
            .spawn()
            .context("setpriv could not be started: apt-get install util-linux")?;
        Ok(Self { child })
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // Asked first, so that a rotation under way is carried through and the log has an end.
        let asked = Command::new("kill")
            .arg("-TERM")
            .arg(self.child.id().to_string())
            .status();
        let patience = Instant::now() + Duration::from_secs(8);
        while asked.is_ok() && matches!(self.child.try_wait(), Ok(None)) && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(50));
        }
        // Both fail only for a child that is already gone, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no port is free on loopback")?;
    Ok(listener.local_addr()?)
}

fn apply(plane: &ControlPlane, manifest: &str) -> Result<()> {
    kubectl(plane, &["apply", "--validate=false", "-f", "-"], manifest).map(drop)
}

fn kubectl(plane: &ControlPlane, arguments: &[&str], input: &str) -> Result<String> {
    let mut command = plane.kubectl();
    command.args(arguments);
    output(command, input)
}
