//! Everything outside the operator's process: the API server, the cloud, the time, and who strikes and judges.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use appcode_operator::controller::Context;
use appcode_operator::verification::Probe;
use cloud_simulator::{Behaviour, Clock, Cloud, NewApp, Options, Simulator, User};
use http::header::ACCEPT;
use http::{Request, Response};
use k8s_openapi::ByteString;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::api_server::{Answer, ApiServer, Asked, Object, ROTATIONS, SECRETS, refuse};
use super::clock::Time;
use super::cloud::CloudHandle;
use super::gate::{Gate, ProcessId};
use super::judge::Judge;
use super::relay::Relay;
use super::script::{ApiFault, Moment, Script, Strike, Verb};
use super::sight::Sight;
use super::trace::Trace;

pub const NAMESPACE: &str = "shop";
pub const NAME: &str = "checkout";
pub const CREDENTIALS: &str = "credentials";

/// Changes a request, or answers it.
pub type Tamper = Box<dyn Fn(&Stage, &mut Asked) -> Option<Answer> + Send + Sync>;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What stays when the operator's process ends.
pub struct Stage {
    pub api: ApiServer,
    pub cloud: CloudHandle,
    pub time: Time,
    pub script: Script,
    pub judge: Judge,
    pub gate: Gate,
    pub trace: Trace,
    /// What stands before the API server where a bug is planted.
    pub tamper: OnceLock<Tamper>,
    /// Origin of ModelArts and IAM.
    pub endpoint: String,
    pub user: User,
    pub project: String,
    pub app: String,
    pub crashed: Notify,
    /// What the next tries of a code get instead of the gateway's answer.
    pub probes: Mutex<VecDeque<Probe>>,
    /// Codes that were tried.
    pub tried: Mutex<Vec<String>>,
    /// Whether workloads roll out while time passes.
    pub is_rolling: AtomicBool,
    /// Whether a resource that goes is not to be made again by who was about to.
    pub is_unwanted: AtomicBool,
    /// Processes that were started.
    processes: Mutex<BTreeMap<ProcessId, Weak<Context>>>,
    /// Those that were asked to end, and still run.
    stopping: Mutex<BTreeSet<ProcessId>>,
    /// Who stands still while another process leads.
    pub relay: Relay,
    /// Who has lost its Lease since this was last asked.
    pub lapsed: Mutex<Vec<ProcessId>>,
    /// What the watches of the processes do.
    pub sight: Sight,
    /// What happens once it can.
    later: Mutex<Vec<Deferred>>,
}

/// Does something if it can be done by now; returns whether it was.
pub type Deferred = Box<dyn Fn(&Stage) -> bool + Send + Sync>;

impl Stage {
    /// A stage whose cloud is served on a port. Its app has `codes` codes.
    pub async fn over_http(codes: usize) -> Arc<Self> {
        let time = Time::default();
        let source = time.clone();
        let options = Options {
            clock: Clock::new(move || source.truth()),
            ..Options::default()
        };
        let simulator = Simulator::start(options).await.unwrap();
        let endpoint = simulator.url();
        Self::set(CloudHandle::Http(simulator), time, endpoint, codes)
    }

    /// A stage whose cloud is called directly.
    pub fn direct(codes: usize) -> Arc<Self> {
        let time = Time::default();
        let cloud = Cloud::new(0, Behaviour::default()).into();
        let cloud = CloudHandle::Direct(cloud, time.clone());
        Self::set(cloud, time, "http://127.0.0.1:1".into(), codes)
    }

    fn set(cloud: CloudHandle, time: Time, endpoint: String, codes: usize) -> Arc<Self> {
        let now = time.truth();
        let (user, project, app) = cloud.with(|cloud| {
            let account = cloud.add_account("account");
            let project = cloud.add_project(&account.account_id, "cn-north-4");
            let user = cloud.add_user(&account.account_id, "user", "Passw0rd!of-the-user");
            let new = NewApp::of(&user.user_id, &project).codes(codes).name("checkout-app");
            let app = cloud.create_app(now, new).app_id;
            (user, project, app)
        });
        let stage = Arc::new(Self {
            api: ApiServer::at(time.clone()),
            cloud,
            time,
            script: Script::default(),
            judge: Judge::default(),
            gate: Gate::default(),
            trace: Trace::default(),
            tamper: OnceLock::new(),
            endpoint,
            user,
            project,
            app,
            crashed: Notify::new(),
            probes: Mutex::default(),
            tried: Mutex::default(),
            is_rolling: AtomicBool::new(false),
            is_unwanted: AtomicBool::new(false),
            processes: Mutex::default(),
            stopping: Mutex::default(),
            relay: Relay::default(),
            lapsed: Mutex::default(),
            sight: Sight::default(),
            later: Mutex::default(),
        });
        let user = &stage.user;
        stage.create_secret(CREDENTIALS, &[("accessKey", &user.ak), ("secretKey", &user.sk)]);
        stage
    }

    /// The process ends here.
    async fn crash(&self, process: ProcessId) {
        self.gate.crash(process);
        self.crashed.notify_one();
        pending::<()>().await;
    }

    /// What strikes a call whoever is called.
    pub async fn strike(&self, process: ProcessId, strikes: &[Strike], now: Moment) {
        for strike in strikes {
            match strike {
                Strike::Crash(moment) if *moment == now => self.crash(process).await,
                Strike::Act(moment, act) if *moment == now => (act.work)(self),
                Strike::Stop(moment) if *moment == now => self.ask_to_end(process),
                Strike::Takeover(moment, takeover) if *moment == now => {
                    self.relay.stand_still(process, *takeover, self.script.len()).await;
                }
                Strike::Lapse(moment, time) if *moment == now => {
                    self.lapsed.lock().unwrap().push(process);
                    self.gate.pass(process, Some(self.time.truth() + *time)).await;
                }
                Strike::Pause(moment, time) if *moment == now => {
                    self.gate.pass(process, Some(self.time.truth() + *time)).await;
                }
                _ => {}
            }
        }
    }

    pub fn started(&self, process: ProcessId, ctx: &Arc<Context>) {
        self.processes.lock().unwrap().insert(process, Arc::downgrade(ctx));
    }

    /// Asks a process to end, as a signal does.
    fn ask_to_end(&self, process: ProcessId) {
        let ctx = self.processes.lock().unwrap().get(&process).and_then(Weak::upgrade);
        ctx.unwrap().stop();
        self.stopping.lock().unwrap().insert(process);
    }

    /// Whether a process was asked to end; it is then no longer reckoned with.
    pub fn is_ending(&self, process: ProcessId) -> bool {
        self.stopping.lock().unwrap().remove(&process)
    }

    /// A client whose every request comes here.
    pub fn client(self: &Arc<Self>) -> kube::Client {
        self.client_of(0)
    }

    pub fn client_of(self: &Arc<Self>, process: ProcessId) -> kube::Client {
        let stage = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<Body>| {
            let stage = Arc::clone(&stage);
            async move { stage.serve(process, request).await }
        });
        kube::Client::new(service, "default")
    }

    async fn serve(&self, process: ProcessId, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await?;
        let uri = &parts.uri;
        let mut asked = Asked::parse(&parts.method, uri.path(), uri.query().unwrap_or_default(), &body);
        asked.by = process;
        let accept = parts.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
        asked.is_of_metadata = accept.is_some_and(|accept| accept.contains("as=PartialObjectMetadata"));
        if asked.verb == Verb::Watch && asked.resource == ROTATIONS {
            if self.api.is_revoked(ROTATIONS, Verb::Watch) {
                let (code, body) = refuse(403, "Forbidden", "the right to watch is lacking");
                return Ok(respond(code, body.to_string()));
            }
            return Ok(self.watch(&asked).await);
        }
        if asked.verb == Verb::Watch && asked.resource == SECRETS {
            return Ok(match self.handle(&asked) {
                (200, _) => self.watch(&asked).await,
                (code, body) => respond(code, body.to_string()),
            });
        }
        // While it waits for its turn, others may see time pass.
        asked.sent_at = self.time.truth();
        self.gate.pass(process, None).await;
        self.relay.before_call(process, self.script.len()).await;
        let strikes = self.script.enter(asked.call());
        self.note(process, || {
            format!("{} {} {}", asked.call(), asked.body, told(&strikes))
        });
        self.strike(process, &strikes, Moment::Before).await;
        let fault = strikes.iter().find_map(|strike| match strike {
            Strike::Api(moment, fault) => Some((*moment, *fault)),
            _ => None,
        });
        let answer = match fault {
            Some((Moment::Before, ApiFault::Stale)) => {
                self.judge.hear(self, &asked);
                let answer = self.api.handle_stale(&asked);
                self.judge.shown(self, &asked, &answer.1);
                Some(answer)
            }
            Some((Moment::Before, _)) => None,
            _ => {
                let tampered = self.tamper.get().and_then(|tamper| tamper(self, &mut asked));
                let answer = tampered.unwrap_or_else(|| self.handle(&asked));
                self.judge.look(self);
                self.note(process, || {
                    format!("{} answered {} {}", asked.call(), answer.0, answer.1)
                });
                Some(answer)
            }
        };
        self.strike(process, &strikes, Moment::After).await;
        match (fault, answer) {
            (None | Some((_, ApiFault::Stale)), Some((code, body))) => Ok(respond(code, body.to_string())),
            (Some((_, fault)), _) => fail(fault, &asked).await,
            (None, None) => unreachable!("only a fault leaves a call without an answer"),
        }
    }

    /// A request's way through the API server, under the eyes of the judge.
    pub fn handle(&self, asked: &Asked) -> Answer {
        self.judge.hear(self, asked);
        let (code, body) = self.api.handle(asked, self.time.truth());
        self.judge.shown(self, asked, &body);
        self.judge.answered(self, asked, code);
        (code, body)
    }

    /// Adds a line to the trace, if one is kept.
    pub fn note(&self, process: ProcessId, line: impl FnOnce() -> String) {
        self.trace
            .add(|| format!("{} {process}: {}", self.time.truth(), line()));
    }

    async fn watch(&self, asked: &Asked) -> Response<Body> {
        let version = asked.query.get("resourceVersion").and_then(|text| text.parse().ok());
        let changes = self
            .api
            .watch(asked.resource, &asked.namespace, version.unwrap_or_default())
            .await;
        let line = |change: super::api_server::Change| {
            format!("{}\n", json!({ "type": change.kind, "object": *change.object }))
        };
        respond(200, changes.into_iter().map(line).collect())
    }
}

/// What strikes a call, for the trace.
pub fn told(strikes: &[Strike]) -> String {
    match strikes {
        [] => "None".into(),
        [strike] => format!("Some({strike:?})"),
        strikes => format!("{strikes:?}"),
    }
}

fn respond(code: u16, body: String) -> Response<Body> {
    let response = Response::builder()
        .status(code)
        .header("Content-Type", "application/json");
    response.body(Body::from(body.into_bytes())).unwrap()
}

async fn fail(fault: ApiFault, asked: &Asked) -> Result<Response<Body>, BoxError> {
    let code = match fault {
        ApiFault::Status(code) => code,
        ApiFault::Cut => return Err("connection closed before message completed".into()),
        ApiFault::Hang | ApiFault::Stale => pending().await,
    };
    let (reason, message) = match code {
        403 => ("Forbidden", "secrets is forbidden: exceeded quota"),
        404 => ("NotFound", "the server could not find the requested resource"),
        409 => (
            "Conflict",
            "the object has been modified; please apply your changes to the latest version",
        ),
        422 => ("Invalid", "the object is invalid: denied by a policy"),
        429 => ("TooManyRequests", "too many requests, please try again later"),
        503 => (
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        ),
        504 => ("Timeout", "request did not complete within the allotted timeout"),
        _ => (
            "InternalError",
            "an error on the server has prevented the request from succeeding",
        ),
    };
    let (code, body) = refuse(code, reason, &format!("{message} ({})", asked.resource));
    Ok(respond(code, body.to_string()))
}

/// What people do, and what they see.
impl Stage {
    pub fn create_secret(&self, name: &str, data: &[(&str, &str)]) {
        self.api.apply_new(SECRETS, secret(name, data), self.time.truth());
    }

    /// Sets fields of a Secret's data.
    pub fn edit_secret(&self, name: &str, data: &[(&str, &str)]) {
        self.api.edit(SECRETS, NAMESPACE, name, |object| {
            for (key, value) in data {
                object["data"][key] = encoded(value);
            }
        });
    }

    pub fn delete_secret(&self, name: &str) -> bool {
        self.api.delete(SECRETS, NAMESPACE, name)
    }

    pub fn secret(&self, name: &str) -> Option<Value> {
        self.api.object(SECRETS, NAMESPACE, name).map(Object::unwrap_or_clone)
    }

    /// A resource of the stage's app with the default name; `change` alters its spec.
    pub fn create_rotation(&self, change: impl FnOnce(&mut Value)) -> Object {
        self.create_rotation_named(NAME, change)
    }

    pub fn create_rotation_named(&self, name: &str, change: impl FnOnce(&mut Value)) -> Object {
        let mut object = json!({
            "apiVersion": "appcode.dev/v1alpha1", "kind": "AppCodeRotation",
            "metadata": { "namespace": NAMESPACE, "name": name },
            "spec": {
                "endpoint": self.endpoint, "projectId": self.project, "appId": self.app,
                "credentialsRef": { "name": CREDENTIALS },
            },
        });
        change(&mut object["spec"]);
        self.api.apply_new(ROTATIONS, object, self.time.truth())
    }

    pub fn edit_rotation(&self, name: &str, change: impl FnOnce(&mut Value)) -> bool {
        self.api.edit(ROTATIONS, NAMESPACE, name, change)
    }

    pub fn set_trigger(&self, value: &str) {
        self.edit_rotation(NAME, |object| object["spec"]["rotationTrigger"] = json!(value));
    }

    pub fn annotate(&self, name: &str, key: &str, value: &str) {
        self.edit_rotation(name, |object| object["metadata"]["annotations"][key] = json!(value));
    }

    /// Lets time pass, in which workloads roll out if they do so by themselves; none if something can be done at once.
    pub fn wait(&self, time: Duration) {
        if self.catch_up() {
            return;
        }
        self.time.advance(time);
        self.catch_up();
        if !time.is_zero() && self.is_rolling.load(Ordering::Relaxed) {
            self.roll_on();
        }
    }

    /// Does something as soon as it can be done, while time passes.
    pub fn later(&self, deed: impl Fn(&Stage) -> bool + Send + Sync + 'static) {
        self.later.lock().unwrap().push(Box::new(deed));
    }

    /// Does what can be done by now. Returns whether there was anything.
    fn catch_up(&self) -> bool {
        let mut left = std::mem::take(&mut *self.later.lock().unwrap());
        let awaited = left.len();
        left.retain(|deed| !deed(self));
        let is_any = left.len() < awaited;
        self.later.lock().unwrap().append(&mut left);
        is_any
    }

    /// Whether something is still to happen.
    pub fn is_awaiting(&self) -> bool {
        !self.later.lock().unwrap().is_empty()
    }

    /// The codes that the cloud takes now.
    pub fn live(&self) -> Vec<String> {
        self.cloud.with(|cloud| cloud.live_codes(&self.app))
    }

    /// The code in a Secret.
    pub fn code_in(&self, name: &str) -> Option<String> {
        code_of(&self.secret(name)?, "appCode")
    }
}

/// A Secret as a person writes it.
pub fn secret(name: &str, data: &[(&str, &str)]) -> Value {
    let data: serde_json::Map<String, Value> = data
        .iter()
        .map(|(key, value)| ((*key).to_owned(), encoded(value)))
        .collect();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": { "namespace": NAMESPACE, "name": name }, "data": data,
    })
}

fn encoded(value: &str) -> Value {
    json!(ByteString(value.as_bytes().to_vec()))
}

/// The text under a key of a Secret.
pub fn code_of(secret: &Value, key: &str) -> Option<String> {
    let bytes: ByteString = serde_json::from_value(secret["data"].get(key)?.clone()).ok()?;
    String::from_utf8(bytes.0).ok()
}
