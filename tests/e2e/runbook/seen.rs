//! The resources as one watch shows them, so that many cases can wait for them without asking the API server all the time.

use std::sync::Arc;

use appcode_operator::api::AppCodeRotation;
use futures::StreamExt;
use kube::runtime::reflector::{ObjectRef, Store, store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::task::JoinHandle;

/// Watches until it is dropped.
pub struct Seen {
    store: Store<AppCodeRotation>,
    task: JoinHandle<()>,
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Seen {
    pub fn start(client: Client) -> Self {
        let (store, writer) = store();
        let resources: Api<AppCodeRotation> = Api::all(client);
        let watch = watcher(resources, watcher::Config::default()).default_backoff();
        let task = tokio::spawn(watch.reflect(writer).for_each(async |event| {
            if let Err(error) = event {
                println!("seen: {error}");
            }
        }));
        Self { store, task }
    }

    /// A resource as it was when the API server last told of it.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<AppCodeRotation>> {
        self.store.get(&ObjectRef::new(name).within(namespace))
    }
}
