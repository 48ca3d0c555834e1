//! What each Secret held, one code after another, as a watch of our own saw it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, watcher};
use kube::{Api, ResourceExt};
use tokio::task::JoinHandle;
use tokio::time::sleep;

type Codes = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

/// A watch on the Secrets of a namespace; it ends when it is dropped. While the API server is away it misses versions,
/// and sees the latest one afterwards.
pub struct History {
    codes: Codes,
    task: JoinHandle<()>,
}

impl History {
    /// Watches from now on.
    pub fn of(secrets: Api<Secret>) -> Self {
        let codes = Codes::default();
        let task = tokio::spawn(watch(secrets, Arc::clone(&codes)));
        Self { codes, task }
    }

    /// The codes that a Secret was seen to hold, oldest first, each once for each time it came, up to the present one.
    pub async fn codes_until(&self, secret: &str, present: &str) -> Vec<String> {
        loop {
            let codes = self.codes.lock().unwrap().get(secret).cloned().unwrap_or_default();
            if codes.last().is_some_and(|last| last == present) {
                return codes;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn watch(secrets: Api<Secret>, codes: Codes) {
    let mut seen = watcher(secrets, Config::default())
        .default_backoff()
        .applied_objects()
        .boxed();
    while let Some(secret) = seen.next().await {
        let Some((secret, code)) = secret
            .ok()
            .and_then(|secret| Some((secret.name_any(), code_of(&secret)?)))
        else {
            continue;
        };
        let mut codes = codes.lock().unwrap();
        let held = codes.entry(secret).or_default();
        if held.last() != Some(&code) {
            held.push(code);
        }
    }
}

/// The code in a Secret.
pub fn code_of(secret: &Secret) -> Option<String> {
    let value = secret.data.as_ref()?.get("appCode")?;
    String::from_utf8(value.0.clone()).ok()
}
