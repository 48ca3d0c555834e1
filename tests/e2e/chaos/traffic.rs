//! Requests for rotations that never end: each resource is asked again as soon as its last request was handled.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use appcode_operator::api::{AppCodeRotation, ROTATE_REQUESTED_AT};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::history::code_of;

/// The annotation in which the operator writes down, with the code itself, the request that made it.
const HANDLED: &str = "appcode.dev/last-handled-request";
/// The annotation with the rotation that is under way, or the last one.
pub const INTENT: &str = "appcode.dev/intent";
const PAUSE: Duration = Duration::from_millis(200);
/// A server without its store lets its clients wait for long.
const ANSWER: Duration = Duration::from_secs(5);

/// What a Secret says of its resource.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The last request whose code is in it; requests count from one.
    pub handled: usize,
    /// The code.
    pub code: Option<String>,
    /// Whether nothing of the last rotation is left to do, such as to delete the code before.
    pub is_over: bool,
}

/// Asks for rotations, by numbered requests, and remembers for how many.
#[derive(Clone)]
pub struct Asker {
    rotations: Api<AppCodeRotation>,
    secrets: Api<Secret>,
    asked: Arc<Mutex<BTreeMap<String, usize>>>,
    /// When the last look began that still found each code in a Secret.
    found: Arc<Mutex<BTreeMap<String, Timestamp>>>,
}

impl Asker {
    /// One that has asked for nothing yet.
    pub fn new(client: &Client, namespace: &str) -> Self {
        Self {
            found: Arc::default(),
            rotations: Api::namespaced(client.clone(), namespace),
            secrets: Api::namespaced(client.clone(), namespace),
            asked: Arc::default(),
        }
    }

    /// How many rotations of a resource were asked for.
    pub fn asked(&self, name: &str) -> usize {
        self.asked.lock().unwrap().get(name).copied().unwrap_or(0)
    }

    /// When the last look began, by this machine's clock as the cloud's, that found this code in a Secret.
    pub fn last_found(&self, code: &str) -> Option<Timestamp> {
        self.found.lock().unwrap().get(code).copied()
    }

    /// What the Secrets say now; nothing while the server does not answer.
    pub async fn kept(&self) -> BTreeMap<String, Kept> {
        let began = Timestamp::now();
        let params = ListParams::default().labels("app.kubernetes.io/managed-by=appcode-operator");
        let Ok(Ok(secrets)) = timeout(ANSWER, self.secrets.list(&params)).await else {
            return BTreeMap::new();
        };
        let kept = secrets.into_iter().map(|secret| {
            let handled = secret.annotations().get(HANDLED);
            let handled = handled.map_or(0, |request| request.parse().expect("only we ask"));
            let code = code_of(&secret);
            if let Some(code) = &code {
                let mut found = self.found.lock().unwrap();
                let last = found.entry(code.clone()).or_insert(began);
                *last = began.max(*last);
            }
            let is_over = is_over(&secret);
            (secret.name_any(), Kept { handled, code, is_over })
        });
        kept.collect()
    }

    /// Asks for the rotation after the one that was handled last. Asking twice for one changes nothing, so a request of
    /// which it is not known whether it arrived is made again.
    pub async fn ask_after(&self, name: &str, handled: usize) -> bool {
        // It counts before it is sent: what has no answer may have arrived.
        self.count(name, handled + 1);
        self.remind(name).await
    }

    /// From now on the request of this number is the last one for a resource.
    pub fn count(&self, name: &str, request: usize) {
        self.asked.lock().unwrap().insert(name.to_owned(), request);
    }

    /// Whether a finalizer holds a resource, or may.
    pub async fn is_held(&self, name: &str) -> bool {
        let found = self.rotations.get(name).await;
        found.map_or(true, |found| !found.finalizers().is_empty())
    }

    /// Whether there is such a resource, or may be.
    pub async fn is_there(&self, name: &str) -> bool {
        !matches!(self.rotations.get_opt(name).await, Ok(None))
    }

    /// Makes sure that the last request has arrived.
    pub async fn remind(&self, name: &str) -> bool {
        let annotation = json!({ROTATE_REQUESTED_AT: self.asked(name).to_string()});
        let change = Patch::Merge(json!({"metadata": {"annotations": annotation}}));
        let params = PatchParams::default();
        let asked = timeout(ANSWER, self.rotations.patch(name, &params, &change));
        matches!(asked.await, Ok(Ok(_)))
    }

    /// Keeps asking for rotations of these resources until it is dropped.
    pub fn keep_asking(&self, names: Vec<String>) -> Traffic {
        Traffic(tokio::spawn(keep_asking(self.clone(), names)))
    }
}

/// Whether the rotation on a Secret is over. With `Overlap` it ends with the code before.
fn is_over(secret: &Secret) -> bool {
    let Some(intent) = secret.annotations().get(INTENT) else {
        return true;
    };
    let intent: Value = serde_json::from_str(intent).expect("only the operator writes it");
    let end = if intent["strategy"] == "Overlap" {
        "Retired"
    } else {
        "Persisted"
    };
    intent["step"] == end
}

/// Requests that go on until this is dropped.
pub struct Traffic(JoinHandle<()>);

impl Drop for Traffic {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn keep_asking(asker: Asker, names: Vec<String>) {
    let mut arrived: BTreeMap<&str, usize> = BTreeMap::new();
    loop {
        let kept = asker.kept().await;
        for name in &names {
            let Some(handled) = kept.get(name).map(|kept| kept.handled) else {
                continue;
            };
            let is_asked = arrived.get(name.as_str()).is_some_and(|last| *last > handled);
            if !is_asked && asker.ask_after(name, handled).await {
                arrived.insert(name, handled + 1);
            }
        }
        sleep(PAUSE).await;
    }
}
