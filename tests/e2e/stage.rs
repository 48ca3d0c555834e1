//! Everything a real rotation needs, on this machine: a control plane, a simulated cloud, and the operator's own program
//! under its own identity, with the rights that `deploy/` gives it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cloud_simulator::{App, NewApp, User};
use control_plane::{ControlPlane, Identity, Options};
use kube::Client;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use crate::cloud::Cloud;
use crate::deployed::Deployed;

/// The operator's identity, as `deploy/` names it.
pub const NAMESPACE: &str = "appcode-system";
const ACCOUNT: &str = "appcode-operator";
/// Bound on anything that is waited for; far above what it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// The first release of kubectl that takes a folder for a resource of a kustomization.
pub const FIRST_WITH_FOLDERS: u32 = 21;

/// A running control plane with the operator installed, and a cloud.
pub struct Stage {
    // Dropped first, so that it does not outlive what it calls.
    operator: Option<Operator>,
    /// The control plane.
    pub plane: ControlPlane,
    admin: Client,
    /// The cloud.
    pub cloud: Cloud,
    /// The IAM user that creates apps.
    pub user: User,
    /// The user's project.
    pub project: String,
    /// Where the operator's log goes.
    pub log: PathBuf,
    program: PathBuf,
    flags: Vec<String>,
    /// Those of `flags` that the test asked for.
    given: Vec<String>,
    has_controllers: bool,
}

/// A running operator's program, killed when dropped.
pub struct Operator(Child);

impl Operator {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args(["-s", signal, &self.id().to_string()])
            .status()
            .expect("kill runs");
        assert!(sent.success(), "the operator is still there");
    }

    /// Waits for its end; returns its exit code, if it has one.
    pub fn wait(mut self) -> Option<i32> {
        self.0.wait().expect("the operator ends").code()
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Stage {
    /// Starts the control plane and the cloud, and installs the operator's manifests; the program itself starts with
    /// [`Stage::start_operator`].
    pub async fn set(program: &Path, flags: &[&str]) -> Self {
        Self::before(Cloud::start(), program, flags).await
    }

    /// The same with nothing installed.
    pub async fn bare(program: &Path) -> Self {
        let cloud = Cloud::start();
        let (user, project) = cloud.add_tenant("tenant");
        Self::empty(cloud, user, project, program, &[], false).await
    }

    /// The same with Kubernetes' own controllers: workloads get pods, namespaces end, garbage is collected. See
    /// [`Player`](crate::player::Player) for what makes the pods ready.
    pub async fn set_with_controllers(program: &Path, flags: &[&str]) -> Self {
        let cloud = Cloud::start();
        let (user, project) = cloud.add_tenant("tenant");
        Self::on(cloud, user, project, program, flags, true).await
    }

    /// What [`Stage::set`] sets, with a cloud that runs already.
    pub async fn before(cloud: Cloud, program: &Path, flags: &[&str]) -> Self {
        let (user, project) = cloud.add_tenant("tenant");
        Self::on(cloud, user, project, program, flags, false).await
    }

    /// Another cluster that uses the same cloud, with an operator of its own.
    pub async fn another(&self) -> Self {
        let flags: Vec<&str> = self.given.iter().map(String::as_str).collect();
        let (user, project) = (self.user.clone(), self.project.clone());
        let cloud = self.cloud.clone();
        Self::on(cloud, user, project, &self.program, &flags, self.has_controllers).await
    }

    async fn on(
        cloud: Cloud,
        user: User,
        project: String,
        program: &Path,
        flags: &[&str],
        has_controllers: bool,
    ) -> Self {
        let stage = Self::empty(cloud, user, project, program, flags, has_controllers).await;
        stage.install();
        stage
    }

    async fn empty(
        cloud: Cloud,
        user: User,
        project: String,
        program: &Path,
        flags: &[&str],
        has_controllers: bool,
    ) -> Self {
        let options = Options {
            identities: vec![Identity::service_account(NAMESPACE, ACCOUNT)],
            audit: true,
            controller_manager: has_controllers,
            ..Options::default()
        };
        let plane = ControlPlane::start(options).await.expect("the control plane starts");
        let admin = Self::client(plane.admin_kubeconfig()).await;
        let log = plane.dir().join("operator.log");
        let mut all = vec![format!("--allow-endpoint={0}={0}", cloud.url())];
        all.push(format!("--verification-hosts={}", cloud.address()));
        all.extend(["--allow-insecure-loopback", "--admin-address=127.0.0.1:0"].map(str::to_owned));
        all.push(format!("--lease-namespace={NAMESPACE}"));
        if !flags.iter().any(|flag| flag.starts_with("--lease-duration")) {
            all.push("--lease-duration=6s".to_owned()); // the next one need not wait long for one that was killed
        }
        all.extend(flags.iter().map(|flag| (*flag).to_owned()));
        Self {
            plane,
            admin,
            cloud,
            user,
            project,
            log,
            program: program.to_owned(),
            flags: all,
            given: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            operator: None,
            has_controllers,
        }
    }

    /// Installs `deploy/` as the README says. Nothing runs the Deployment: there are no nodes.
    pub fn install(&self) {
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
        // A server that knows no rules in definitions describes them as unknown fields, which stops kubectl.
        let mut apply = vec!["apply".to_owned(), "--validate=false".to_owned()];
        if self.kubectl_minor().is_none_or(|minor| minor >= FIRST_WITH_FOLDERS) {
            apply.extend(["-k".to_owned(), deploy.display().to_string()]);
        } else {
            apply.push(format!("-f={}/../crds/appcoderotations.yaml", deploy.display()));
            for file in [
                "namespace",
                "serviceaccount",
                "rbac",
                "service",
                "configmap",
                "deployment",
            ] {
                apply.push(format!("-f={}/kustomize/base/{file}.yaml", deploy.display()));
            }
        }
        self.kubectl(&apply.iter().map(String::as_str).collect::<Vec<_>>());
        self.kubectl(&[
            "wait",
            "--for=condition=Established",
            "crd/appcoderotations.appcode.dev",
            "--timeout=60s",
        ]);
    }

    /// Gives the operator the optional right to restart workloads, as a user does.
    pub fn allow_restarts(&self) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kustomize/components/restart/rbac-restart.yaml");
        let file = file.display().to_string();
        self.kubectl(&["apply", "--validate=false", "-f", &file]);
    }

    /// Gives the operator the optional right to watch Secrets. It uses it with its flag only.
    pub fn allow_watching_secrets(&self) {
        let file = "deploy/kustomize/components/watch-secrets/rbac-watch-secrets.yaml";
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file).display().to_string();
        self.kubectl(&["apply", "--validate=false", "-f", &file]);
    }

    pub fn kubectl_minor(&self) -> Option<u32> {
        let version = self.kubectl(&["version", "--client", "-o", "json"]);
        let version: Value = serde_json::from_str(&version).expect("kubectl prints JSON");
        let minor = version["clientVersion"]["minor"].as_str()?;
        minor.trim_end_matches('+').parse().ok()
    }

    /// From the next start on another build of the program is run.
    pub fn use_program(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// Starts the operator's program under its own identity. Its log goes on in the same file.
    pub fn start_operator(&mut self) {
        self.operator = Some(self.run_operator(self.operator_kubeconfig()));
    }

    /// The kubeconfig of the operator's own identity.
    pub fn operator_kubeconfig(&self) -> &Path {
        let identity = Identity::service_account(NAMESPACE, ACCOUNT);
        self.plane.kubeconfig(&identity.user).expect("the identity exists")
    }

    /// A client of the API server that signs in with this kubeconfig.
    pub async fn client(kubeconfig: &Path) -> Client {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("the kubeconfig can be read");
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        Client::try_from(config.expect("the kubeconfig is whole")).expect("a client is made")
    }

    /// Runs the operator's program beside others, with this kubeconfig. All share one log.
    pub fn run_operator(&self, kubeconfig: &Path) -> Operator {
        self.run_operator_with(kubeconfig, &[])
    }

    /// The same with more flags.
    pub fn run_operator_with(&self, kubeconfig: &Path, more: &[String]) -> Operator {
        let is_given = |flag: &&String| {
            let name = |flag: &str| flag.split('=').next().map(str::to_owned);
            !more.iter().any(|other| name(other) == name(flag))
        };
        let mut command = self.command();
        command.args(self.flags.iter().filter(is_given)).args(more);
        self.spawn(command.env("KUBECONFIG", kubeconfig))
    }

    /// Runs the operator's program as the pod of this name.
    pub fn run_pod(&self, name: &str, kubeconfig: &Path) -> Operator {
        let mut command = self.command();
        command.args(&self.flags).env("POD_NAME", name);
        self.spawn(command.env("KUBECONFIG", kubeconfig))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("setpriv"); // so that it ends with us, however we end
        command.args(["--pdeathsig", "KILL"]).arg(&self.program);
        command
    }

    /// The operator's kubeconfig with another way to the server: `https` by the same authority.
    pub fn kubeconfig_by(&self, name: &str, address: &str) -> PathBuf {
        let text = std::fs::read_to_string(self.operator_kubeconfig()).expect("the kubeconfig can be read");
        let mut config: Value = serde_json::from_str(&text).expect("the kubeconfig is JSON");
        config["clusters"][0]["cluster"]["server"] = json!(format!("https://{address}"));
        let path = self.plane.dir().join(format!("{name}.kubeconfig"));
        std::fs::write(&path, config.to_string()).expect("the kubeconfig can be written");
        path
    }

    /// Starts what a Deployment says, in place of a kubelet: see [`crate::deployed`].
    pub fn start_deployed(&mut self, deployed: &Deployed) {
        self.operator = Some(self.run_deployed(deployed));
    }

    fn run_deployed(&self, deployed: &Deployed) -> Operator {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .arg(&self.program)
            .args(&deployed.args);
        // What stands in no manifest is not there.
        command.env_clear().envs(deployed.env.iter().cloned());
        self.spawn(&mut command)
    }

    /// Lets the second pod of a Deployment start, stand by and end.
    pub async fn stand_by(&self, deployed: &Deployed) {
        let args = deployed.args.iter().map(|arg| match arg.split_once('=') {
            Some((name @ "--admin-address", _)) => format!("{name}=127.0.0.1:0"), // it has an address of its own
            _ => arg.clone(),
        });
        let second = Deployed {
            args: args.collect(),
            env: deployed.env.clone(),
            ..*deployed
        };
        self.end_standby(|| self.run_deployed(&second)).await;
    }

    /// Starts an operator, waits until it stands by, and ends it.
    pub async fn end_standby(&self, start: impl FnOnce() -> Operator) {
        let count = || {
            self.log_text()
                .matches("another replica leads; this one stands by")
                .count()
        };
        let before = count();
        let second = start();
        self.until("the second one stands by", || count() > before).await;
        // It says so before its watch of the Lease is open.
        self.until("its watch is open", || self.has_watched_the_lease()).await;
        second.signal("TERM");
        assert_eq!(second.wait(), Some(0));
    }

    /// Whether a watch of the Lease was ever opened, where an audit log tells that.
    fn has_watched_the_lease(&self) -> bool {
        let Some(path) = self.plane.audit_log() else {
            return true;
        };
        let log = std::fs::read_to_string(path).expect("the audit log can be read");
        let is_open =
            |line: &str| line.contains("/leases?") && line.contains("watch=true") && line.contains("ResponseStarted");
        log.lines().any(is_open)
    }

    /// Runs the operator's program, whose log goes into this file.
    pub fn run_operator_into(&self, log: File) -> Operator {
        let mut command = self.command();
        command.args(&self.flags).env("KUBECONFIG", self.operator_kubeconfig());
        Self::spawn_into(&mut command, log)
    }

    fn spawn(&self, command: &mut Command) -> Operator {
        let log = File::options().create(true).append(true).open(&self.log);
        Self::spawn_into(command, log.expect("the log can be written"))
    }

    fn spawn_into(command: &mut Command, log: File) -> Operator {
        let operator = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the log can be shared"))
            .stderr(log)
            .spawn()
            .expect("the operator starts");
        Operator(operator)
    }

    /// `HOST:PORT` of the running operator's admin endpoints.
    pub fn admin_address(&self) -> String {
        let log = self.log_text();
        let mut lines = log.lines().rev();
        let started = lines.find(|line| ["INFO", "started", "admin"].iter().all(|word| line.contains(word)));
        let (_, rest) = started
            .and_then(|line| line.split_once("127.0.0.1:"))
            .expect("the operator logs its address");
        let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
        format!("127.0.0.1:{port}")
    }

    /// The metrics of the running operator, as Prometheus asks for them.
    pub async fn metrics(&self) -> String {
        self.metrics_as("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5")
            .await
    }

    /// The metrics of the running operator for this `Accept` header.
    pub async fn metrics_as(&self, accept: &str) -> String {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client is made");
        let url = format!("http://{}/metrics", self.admin_address());
        let answer = client.get(url).header("Accept", accept).send().await;
        let answer = answer.expect("the operator answers");
        assert_eq!(answer.status(), 200);
        answer.text().await.expect("the metrics are text")
    }

    /// Sends the operator a signal and waits for its end; returns its exit code, if it has one.
    pub fn end_operator(&mut self, signal: &str) -> Option<i32> {
        self.signal_operator(signal);
        self.await_operator()
    }

    /// Sends the operator a signal.
    pub fn signal_operator(&self, signal: &str) {
        self.operator.as_ref().expect("the operator was started").signal(signal);
    }

    /// The process id of the operator.
    pub fn operator_id(&self) -> u32 {
        self.operator.as_ref().expect("the operator was started").id()
    }

    /// Waits for the operator's end; returns its exit code, if it has one.
    pub fn await_operator(&mut self) -> Option<i32> {
        self.operator.take()?.wait()
    }

    /// Runs kubectl as admin and returns what it prints.
    pub fn kubectl(&self, args: &[&str]) -> String {
        self.send(args, "")
    }

    /// Runs kubectl as admin with `input` and returns what it prints.
    pub fn send(&self, args: &[&str], input: &str) -> String {
        let (is_done, out, err) = self.run(args, input);
        assert!(is_done, "kubectl {args:?}: {err}");
        out
    }

    /// Runs kubectl as admin with `input`: whether it succeeded, and what it printed.
    pub fn run(&self, args: &[&str], input: &str) -> (bool, String, String) {
        let mut command = self.plane.kubectl();
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl runs");
        let mut stdin = child.stdin.take().expect("kubectl has an input");
        stdin.write_all(input.as_bytes()).expect("kubectl reads");
        drop(stdin);
        let output = child.wait_with_output().expect("kubectl ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }

    /// Applies an object.
    pub fn apply(&self, object: &Value) {
        self.send(&["apply", "--validate=false", "-f", "-"], &object.to_string());
    }

    /// A namespace with credentials of [`Stage::user`].
    pub fn namespace(&self, name: &str) {
        self.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        self.credentials(name, &self.user.ak, &self.user.sk);
    }

    /// The credentials Secret of a namespace.
    pub fn credentials(&self, namespace: &str, access_key: &str, secret_key: &str) {
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "credentials", "namespace": namespace},
            "stringData": {"accessKey": access_key, "secretKey": secret_key},
        }));
    }

    /// An app with `codes` codes.
    pub fn app(&self, codes: usize) -> App {
        self.cloud
            .create_app(&NewApp::of(&self.user.user_id, &self.project).codes(codes))
    }

    /// A resource for `app`, with more fields of spec.
    pub fn rotation(&self, namespace: &str, name: &str, app: &str, more: &Value) -> Value {
        let mut spec = json!({
            "endpoint": self.cloud.url(), "projectId": self.project, "appId": app,
            "credentialsRef": {"name": "credentials"},
        });
        for (field, value) in more.as_object().expect("fields") {
            spec[field] = value.clone();
        }
        json!({
            "apiVersion": "appcode.dev/v1alpha1", "kind": "AppCodeRotation",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        })
    }

    /// Asks for a rotation by the annotation.
    pub fn request_rotation(&self, namespace: &str, name: &str, value: &str) {
        let annotation = format!("appcode.dev/rotate-requested-at={value}");
        self.kubectl(&["annotate", "acr", name, "-n", namespace, "--overwrite", &annotation]);
    }

    /// An object as JSON; null if there is none. What tests wait for is read without kubectl, whose start costs more than
    /// all else then.
    pub fn get(&self, namespace: &str, kind: &str, name: &str) -> Value {
        let path = match kind {
            "acr" => format!("/apis/appcode.dev/v1alpha1/namespaces/{namespace}/appcoderotations/{name}"),
            "crd" => format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}"),
            "deployment" => format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}"),
            "secret" => format!("/api/v1/namespaces/{namespace}/secrets/{name}"),
            _ => {
                let text = self.kubectl(&["get", kind, name, "-n", namespace, "-o", "json", "--ignore-not-found"]);
                let text = if text.trim().is_empty() { "null" } else { &text };
                return serde_json::from_str(text).expect("kubectl prints JSON");
            }
        };
        let ask = || {
            let request = http::Request::get(&path).body(Vec::new()).expect("a path");
            self.admin.request::<Value>(request)
        };
        let answer = tokio::task::block_in_place(|| Handle::current().block_on(ask()));
        match answer {
            Ok(object) => object,
            Err(kube::Error::Api(status)) if status.code == 404 => Value::Null,
            Err(error) => panic!("GET {path}: {error}"),
        }
    }

    /// The code in a Secret.
    pub fn code(&self, namespace: &str, secret: &str) -> Option<String> {
        let secret = self.get(namespace, "secret", secret);
        let value: k8s_openapi::ByteString = serde_json::from_value(secret["data"]["appCode"].clone()).ok()?;
        String::from_utf8(value.0).ok()
    }

    /// Waits until `is_so` is true.
    pub async fn until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        let start = Instant::now();
        while !is_so() {
            assert!(
                start.elapsed() < PATIENCE,
                "waited in vain: {what}\n{}",
                self.last_words()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The log of all operators so far.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).expect("the log can be read")
    }

    /// The end of the operator's log.
    pub fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|line| !line.contains("TRACE")).collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}
