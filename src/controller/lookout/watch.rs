//! The watch itself: of Secrets with our label, their names and versions and nothing else.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::NamespaceResourceScope;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::{Deserialize, Deserializer};

use super::Lookout;
use crate::api::MANAGER;
use crate::controller::Context;
use crate::controller::queue::secret;
use crate::controller::run::PAGE_SIZE;
use crate::controller::trouble::Trouble;
use crate::health::Health;
use crate::secret::MANAGED_BY;
use crate::telemetry::causes;

/// Shortest and longest pause after a failure. A right that is lacking may be lacking for good.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5 * 60));

/// A Secret as the watch sees it. The server is asked for metadata only; all of that but these is skipped while parsing.
#[derive(Clone, Debug)]
struct Mark {
    meta: ObjectMeta,
}

impl<'de> Deserialize<'de> for Mark {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Raw {
            metadata: RawMeta,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct RawMeta {
            namespace: Option<String>,
            name: Option<String>,
            resource_version: Option<String>,
        }
        let Raw { metadata } = Raw::deserialize(deserializer)?;
        Ok(Self {
            meta: ObjectMeta {
                namespace: metadata.namespace,
                name: metadata.name,
                resource_version: metadata.resource_version,
                ..ObjectMeta::default()
            },
        })
    }
}

impl Mark {
    fn place(&self) -> (&str, &str) {
        (
            self.meta.namespace.as_deref().unwrap_or_default(),
            self.meta.name.as_deref().unwrap_or_default(),
        )
    }

    fn version(&self) -> &str {
        self.meta.resource_version.as_deref().unwrap_or_default()
    }
}

impl Resource for Mark {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn metadata_api() -> bool {
        true
    }

    fn kind((): &()) -> Cow<'_, str> {
        Secret::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        Secret::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        Secret::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        Secret::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

/// One watch, of one namespace or of all.
pub(in crate::controller) struct Watch {
    pub(in crate::controller) ctx: Arc<Context>,
    pub(in crate::controller) lookout: Arc<Lookout>,
    pub(in crate::controller) health: Arc<Health>,
    pub(in crate::controller) source: Option<String>,
}

impl Watch {
    /// Runs for ever. Nothing but the times of passes depends on it.
    pub(in crate::controller) async fn run(self) {
        let client = self.ctx.cluster.client();
        let api: Api<Mark> = match &self.source {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let seconds = u32::try_from(self.ctx.settings.watch_request.as_secs()).unwrap_or(u32::MAX);
        let config = watcher::Config::default()
            .labels(&format!("{MANAGED_BY}={MANAGER}"))
            .page_size(PAGE_SIZE)
            .timeout(seconds.max(1));
        let mut events = watcher(api, config).boxed();
        let mut shown = HashSet::new();
        let mut trouble = Trouble::none(PAUSES);
        self.health.watches_secrets(self.source.as_deref(), false);
        loop {
            let (woken, wait) = self.lookout.wake(&self.ctx.queue);
            // Where another replica leads, nobody takes the turn that was brought forward.
            if self.ctx.leadership.is_held() {
                self.ctx.metrics.hastened(woken);
            }
            let now = self.ctx.clock.uptime();
            let event = tokio::select! {
                event = events.next(), if trouble.pause(now).is_zero() => event,
                () = self.ctx.clock.sleep(wait.min(trouble.glance(now))) => {
                    self.glance(&mut trouble);
                    continue;
                }
            };
            match event {
                None => return,
                Some(Ok(event)) => {
                    // A listing begins before the server is asked for it.
                    if !matches!(event, Event::Init) {
                        self.health.watches_secrets(self.source.as_deref(), true);
                        if trouble.end() {
                            tracing::info!("the watch on Secrets works again");
                        }
                    }
                    self.take(event, &mut shown);
                }
                Some(Err(error)) => {
                    self.glance(&mut trouble);
                    self.fail(&error, &mut trouble);
                }
            }
        }
    }

    /// Told once, and then shown by the metric only, until it works again.
    fn fail(&self, error: &watcher::Error, trouble: &mut Trouble) {
        self.health.watches_secrets(self.source.as_deref(), false);
        let error = causes(error);
        if trouble.begin(self.ctx.clock.uptime(), self.ctx.draw_share()) {
            tracing::warn!(
                %error,
                "the watch on Secrets failed, so a damaged Secret is found by its next check only; the watch needs the right to list \
                 and watch Secrets, and is started again until it works"
            );
        } else {
            tracing::debug!(%error, "the watch on Secrets failed again");
        }
    }

    /// That it works again may be told by an answer that brings no event.
    fn glance(&self, trouble: &mut Trouble) {
        if self.health.sees_secrets(self.source.as_deref()) && trouble.end_quietly(self.ctx.clock.uptime()) {
            tracing::info!("the watch on Secrets works again");
        }
    }

    fn take(&self, event: Event<Mark>, shown: &mut HashSet<u64>) {
        let lookout = &self.lookout;
        match event {
            Event::Init => shown.clear(),
            Event::InitApply(mark) => {
                let (namespace, name) = mark.place();
                shown.insert(secret(namespace, name));
                lookout.listed(namespace, name, mark.version());
            }
            Event::InitDone => {
                let is_ours = |namespace: &str| self.source.as_ref().is_none_or(|source| source == namespace);
                lookout.end_listing(shown, &self.ctx.queue, is_ours);
                *shown = HashSet::new();
            }
            Event::Apply(mark) => {
                let (namespace, name) = mark.place();
                lookout.changed(namespace, name, Some(mark.version()));
            }
            // Or it has lost the label.
            Event::Delete(mark) => {
                let (namespace, name) = mark.place();
                lookout.changed(namespace, name, None);
            }
        }
    }
}
