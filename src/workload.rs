//! The workloads that read the Secret: how one is marked for a restart, and what a live read of it says of its roll-out.
//! Pure.
//!
//! A restart is one annotation on the pod template, as `kubectl rollout restart` makes one; the workload's own controller
//! does the rest, at the pace that the workload asks for. Nothing here ever scales, resumes or rolls back, and no pod is
//! touched.

mod rollout;

use std::fmt;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sha2::{Digest, Sha256};

pub use self::rollout::{Rollout, told};
pub use crate::api::WorkloadKind;
use crate::validate::is_object_name;

/// Prefix of the annotation that marks a pod template, with its slash.
const PREFIX: &str = "rotation.appcode.dev/";

/// Longest name of an annotation behind its prefix.
const MOST_OF_NAME: usize = 63;

/// As much of a long resource name as is left beside a hyphen and sixteen digits.
const HEAD_OF_NAME: usize = 46;

impl WorkloadKind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Deployment, Self::StatefulSet, Self::DaemonSet];

    /// The word that stands in `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }

    /// The word that kubectl takes for it.
    fn lower(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
            Self::DaemonSet => "daemonset",
        }
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A workload of the resource's namespace that is restarted once the Secret holds a new code. Written `Deployment/web`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RestartTarget {
    /// What it is.
    pub kind: WorkloadKind,
    /// Its name, one that an object can have.
    pub name: String,
}

impl RestartTarget {
    /// Reads `Deployment/web`, as [`fmt::Display`] writes it. None for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once('/')?;
        let kind = WorkloadKind::ALL.into_iter().find(|known| known.as_str() == kind)?;
        is_object_name(name).then(|| Self {
            kind,
            name: name.to_owned(),
        })
    }

    /// As kubectl takes it: `deployment/web`.
    fn for_kubectl(&self) -> String {
        format!("{}/{}", self.kind.lower(), self.name)
    }
}

impl fmt::Display for RestartTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

/// The annotation on pod templates that carries the rotation id of the resource called `resource_name`. Several resources
/// may restart one workload, so each has its own.
///
/// The name of an annotation has at most 63 characters, that of a resource up to 253: of a longer one the first 46 stand
/// there, a hyphen, and the first 16 hex digits of SHA-256 over the whole name.
pub fn marker(resource_name: &str) -> String {
    if resource_name.len() <= MOST_OF_NAME {
        return format!("{PREFIX}{resource_name}");
    }
    let digest = Sha256::digest(resource_name.as_bytes());
    let digits = digest
        .iter()
        .take(8)
        .fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    // Names are ASCII; one that is not has none of its characters cut in two.
    let head: String = resource_name.chars().take(HEAD_OF_NAME).collect();
    format!("{PREFIX}{head}-{digits:016x}")
}

/// A workload as it was read.
#[derive(Clone, Debug, PartialEq)]
pub enum Workload {
    /// Pods that are alike.
    Deployment(Box<Deployment>),
    /// Pods with names of their own.
    StatefulSet(Box<StatefulSet>),
    /// A pod on each node.
    DaemonSet(Box<DaemonSet>),
}

impl Workload {
    fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Deployment(it) => &it.metadata,
            Self::StatefulSet(it) => &it.metadata,
            Self::DaemonSet(it) => &it.metadata,
        }
    }

    fn template(&self) -> Option<&PodTemplateSpec> {
        match self {
            Self::Deployment(it) => it.spec.as_ref().map(|spec| &spec.template),
            Self::StatefulSet(it) => it.spec.as_ref().map(|spec| &spec.template),
            Self::DaemonSet(it) => it.spec.as_ref().map(|spec| &spec.template),
        }
    }

    /// What a patch of it must carry.
    pub fn resource_version(&self) -> &str {
        self.meta().resource_version.as_deref().unwrap_or_default()
    }

    /// Whether it is being deleted, which is as good as gone.
    pub fn is_going(&self) -> bool {
        self.meta().deletion_timestamp.is_some()
    }

    /// How a record names it: another workload that is made under its name has another uid, and was never restarted.
    pub fn mark(&self, target: &RestartTarget) -> String {
        format!("{target}/{}", self.meta().uid.as_deref().unwrap_or_default())
    }

    /// What its pod template says under `marker`: the rotation that last restarted it.
    pub fn marked(&self, marker: &str) -> Option<&str> {
        let annotations = self.template()?.metadata.as_ref()?.annotations.as_ref()?;
        annotations.get(marker).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_reads_back_as_it_is_written() {
        for kind in WorkloadKind::ALL {
            let target = RestartTarget {
                kind,
                name: "web.v2-0".to_owned(),
            };
            assert_eq!(RestartTarget::parse(&target.to_string()), Some(target));
        }
        for text in [
            "",
            "web",
            "/web",
            "Deployment/",
            "deployment/web",
            "Deployment/a/b",
            "Deployment/Web",
            "ReplicaSet/web",
            "Deployment/../web",
        ] {
            assert_eq!(RestartTarget::parse(text), None, "{text}");
        }
    }

    #[test]
    fn each_resource_has_a_marker_that_an_annotation_may_have() {
        assert_eq!(marker("checkout"), "rotation.appcode.dev/checkout");
        let longest_whole = "a".repeat(63);
        assert_eq!(marker(&longest_whole), format!("rotation.appcode.dev/{longest_whole}"));
        // `printf a%.0s {1..64} | sha256sum`
        assert_eq!(
            marker(&"a".repeat(64)),
            format!("rotation.appcode.dev/{}-ffe054fe7ae0cb6d", "a".repeat(46))
        );
        let (one, other) = ("a".repeat(252) + "b", "a".repeat(252) + "c");
        assert_ne!(marker(&one), marker(&other), "names that differ at their end only");
        for name in [one.as_str(), &"x.".repeat(100), "é".repeat(100).as_str()] {
            let name = marker(name);
            assert_eq!(name.strip_prefix(PREFIX).map(|name| name.chars().count()), Some(63));
        }
    }
}
