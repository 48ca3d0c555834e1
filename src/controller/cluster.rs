//! The few calls we make on the API server, each bounded in time and none repeated by the library.

use std::fmt::{self, Debug};
use std::future::Future;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::queue::Key;
use crate::api::{AppCodeRotation, MANAGER};
use crate::ids::RotationId;
use crate::modelarts::scrub;
use crate::validate::is_object_name;
use crate::workload::{RestartTarget, Workload, WorkloadKind};

/// Why a call on the API server failed.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// Somebody else was quicker: what was decided rests on something that has changed.
    #[error("the object has changed")]
    Conflict,
    /// There is no such object.
    #[error("the object does not exist")]
    NotFound,
    /// Refused for a reason that does not pass by itself: a right, a quota, a policy.
    #[error("refused: {0}")]
    Refused(ServerMessage),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// Anything else; it may pass.
    #[error("the API server failed")]
    Failed(#[source] Box<kube::Error>),
}

impl ClusterError {
    /// A closed set of words for logs and metric labels.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::NotFound => "not_found",
            Self::Refused(_) => "refused",
            Self::Timeout => "timeout",
            Self::Failed(_) => "failed",
        }
    }

    /// The same without these codes in what the API server said.
    #[must_use]
    pub fn without(self, codes: &[&str]) -> Self {
        match self {
            Self::Refused(why) => Self::Refused(why.without(codes)),
            Self::Failed(source) => Self::Failed(match *source {
                kube::Error::Api(mut status) => {
                    status.message = scrub(&status.message, codes);
                    status.details = None; // they say the same of each field
                    Box::new(kube::Error::Api(status))
                }
                other => Box::new(other),
            }),
            other => other,
        }
    }
}

impl From<kube::Error> for ClusterError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) if status.is_conflict() || status.is_already_exists() => Self::Conflict,
            kube::Error::Api(status) if status.is_not_found() => Self::NotFound,
            kube::Error::Api(status) if status.is_forbidden() || status.is_invalid() || status.code == 400 => {
                Self::Refused(ServerMessage(status.message))
            }
            other => Self::Failed(Box::new(other)),
        }
    }
}

/// What the API server, or a policy behind it, says of a refusal. It may quote the object that it refuses, and so a code.
///
/// It is kept whole and shown only without what looks like a code: a code that is cut is found no more.
pub struct ServerMessage(String);

impl ServerMessage {
    /// The same without these codes either, for people.
    #[must_use]
    pub fn without(&self, codes: &[&str]) -> Self {
        Self(scrub(&self.0, codes))
    }
}

impl fmt::Display for ServerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&scrub(&self.0, &[]))
    }
}

impl Debug for ServerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

/// The API server.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    deadline: Duration,
}

impl Cluster {
    /// Calls through `client`, none longer than `deadline`.
    pub fn new(client: Client, deadline: Duration) -> Self {
        Self { client, deadline }
    }

    /// The client, for the watch.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    async fn bounded<T>(&self, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ClusterError> {
        match tokio::time::timeout(self.deadline, call).await {
            Ok(result) => result.map_err(ClusterError::from),
            Err(_) => Err(ClusterError::Timeout),
        }
    }

    fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn rotations(&self, namespace: &str) -> Api<AppCodeRotation> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// A live read of a Secret by name. There is none of a name that no Secret can have, and nobody is asked for it: the
    /// client puts names into paths as they are.
    pub async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, ClusterError> {
        if !is_object_name(name) {
            return Ok(None);
        }
        self.bounded(self.secrets(namespace).get_opt(name)).await
    }

    /// Creates a Secret; one that exists is a conflict.
    pub async fn create_secret(&self, namespace: &str, secret: &Secret) -> Result<Secret, ClusterError> {
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        self.bounded(self.secrets(namespace).create(&params, secret)).await
    }

    /// Changes a Secret by a merge patch that carries its `resourceVersion`.
    pub async fn patch_secret(&self, namespace: &str, name: &str, patch: &Value) -> Result<Secret, ClusterError> {
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        self.bounded(self.secrets(namespace).patch(name, &params, &Patch::Merge(patch)))
            .await
    }

    /// A live read of a resource; as with Secrets, nobody is asked for one of an impossible name.
    pub async fn rotation(&self, key: &Key) -> Result<Option<AppCodeRotation>, ClusterError> {
        if !is_object_name(key.name()) {
            return Ok(None);
        }
        self.bounded(self.rotations(key.namespace()).get_opt(key.name())).await
    }

    /// Sets a resource's finalizers, if it still has this `resource_version`.
    pub async fn set_finalizers(
        &self,
        key: &Key,
        resource_version: &str,
        finalizers: &[String],
    ) -> Result<AppCodeRotation, ClusterError> {
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let patch = json!({ "metadata": { "resourceVersion": resource_version, "finalizers": finalizers } });
        self.bounded(
            self.rotations(key.namespace())
                .patch(key.name(), &params, &Patch::Merge(patch)),
        )
        .await
    }

    /// Replaces a resource's status; its `resourceVersion` must be the present one.
    pub async fn replace_status(&self, key: &Key, resource: &AppCodeRotation) -> Result<AppCodeRotation, ClusterError> {
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        self.bounded(
            self.rotations(key.namespace())
                .replace_status(key.name(), &params, resource),
        )
        .await
    }

    /// A live read of a workload by name; as with Secrets, nobody is asked for one of an impossible name.
    pub async fn workload(&self, namespace: &str, target: &RestartTarget) -> Result<Option<Workload>, ClusterError> {
        let name = target.name.as_str();
        if !is_object_name(name) {
            return Ok(None);
        }
        Ok(match target.kind {
            WorkloadKind::Deployment => self.read(namespace, name).await?.map(Workload::Deployment),
            WorkloadKind::StatefulSet => self.read(namespace, name).await?.map(Workload::StatefulSet),
            WorkloadKind::DaemonSet => self.read(namespace, name).await?.map(Workload::DaemonSet),
        })
    }

    async fn read<K>(&self, namespace: &str, name: &str) -> Result<Option<Box<K>>, ClusterError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let objects: Api<K> = Api::namespaced(self.client.clone(), namespace);
        Ok(self.bounded(objects.get_opt(name)).await?.map(Box::new))
    }

    /// Restarts a workload: one annotation on its pod template, under the `resourceVersion` that was read. What is not
    /// named in a merge patch stays as it is.
    pub async fn restart(
        &self,
        namespace: &str,
        target: &RestartTarget,
        resource_version: &str,
        marker: &str,
        id: &RotationId,
    ) -> Result<(), ClusterError> {
        let patch = json!({
            "metadata": {"resourceVersion": resource_version},
            "spec": {"template": {"metadata": {"annotations": {marker: id.as_str()}}}},
        });
        match target.kind {
            WorkloadKind::Deployment => self.change::<Deployment>(namespace, &target.name, &patch).await,
            WorkloadKind::StatefulSet => self.change::<StatefulSet>(namespace, &target.name, &patch).await,
            WorkloadKind::DaemonSet => self.change::<DaemonSet>(namespace, &target.name, &patch).await,
        }
    }

    async fn change<K>(&self, namespace: &str, name: &str, patch: &Value) -> Result<(), ClusterError>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let objects: Api<K> = Api::namespaced(self.client.clone(), namespace);
        self.bounded(objects.patch(name, &params, &Patch::Merge(patch)))
            .await
            .map(drop)
    }

    /// Tells an event.
    pub async fn create_event(&self, namespace: &str, event: &Event) -> Result<(), ClusterError> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        self.bounded(events.create(&PostParams::default(), event))
            .await
            .map(drop)
    }
}
