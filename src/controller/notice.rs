//! What the watch reads of a resource: the little that decides when to look at it. The rest is skipped while parsing.

use std::borrow::Cow;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use kube::core::NamespaceResourceScope;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::queue::Key;
use super::signs::{self, Signs, Why};
use crate::api::{ADOPT_FINGERPRINT, AppCodeRotation, CHECK_REQUESTED_AT, ConditionType, ROTATE_REQUESTED_AT};
use crate::endpoint::Endpoint;

/// A resource as the watch sees it.
#[derive(Clone, Debug)]
pub struct Notice {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// Generation of the spec.
    pub generation: i64,
    /// When it was created.
    pub created: Timestamp,
    /// Generation that status is about; another one than `generation` means that nobody has looked at the spec yet.
    pub observed: Option<i64>,
    /// Value of the request annotation.
    pub request: Option<String>,
    /// Value of the adopt annotation.
    pub adopt: Option<String>,
    /// Value of the check annotation.
    pub check: Option<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// The Secret that spec names.
    pub target: String,
    /// Endpoint, project and app.
    pub app: (String, String, String),
    /// The credentials Secret that spec names; none for the operator's own identity.
    pub credentials: Option<String>,
    /// Whether it was looked at and has neither a code nor an open rotation: others need not look at it.
    pub is_bystander: bool,
    /// What metrics show of it.
    pub signs: Signs,
    /// What the watch itself needs: name, namespace and resourceVersion.
    pub meta: ObjectMeta,
}

impl Default for Notice {
    fn default() -> Self {
        Self {
            namespace: String::new(),
            name: String::new(),
            uid: String::new(),
            generation: 0,
            observed: None,
            created: Timestamp::UNIX_EPOCH,
            request: None,
            adopt: None,
            check: None,
            deleting: false,
            target: String::new(),
            app: Default::default(),
            credentials: None,
            is_bystander: false,
            signs: Signs::default(),
            meta: ObjectMeta::default(),
        }
    }
}

impl Notice {
    /// Its key.
    pub fn key(&self) -> Key {
        Key::new(&self.namespace, &self.name)
    }
}

/// Fields are values, not texts: a spec of the wrong shape must not stop the watch for all others.
#[derive(Deserialize)]
struct Raw {
    metadata: RawMeta,
    #[serde(default)]
    spec: RawSpec,
    #[serde(default)]
    status: RawStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMeta {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    generation: i64,
    resource_version: Option<String>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    #[serde(default)]
    annotations: Option<RawAnnotations>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawStatus {
    observed_generation: Value,
    /// Only whether they are there.
    current: Option<IgnoredAny>,
    rotation: Option<IgnoredAny>,
    conditions: Value,
    last_rotation_time: Value,
    next_rotation_time: Value,
    upcoming: Value,
}

#[derive(Default, Deserialize)]
struct RawAnnotations {
    #[serde(rename = "appcode.dev/rotate-requested-at")]
    request: Option<String>,
    #[serde(rename = "appcode.dev/adopt-fingerprint")]
    adopt: Option<String>,
    #[serde(rename = "appcode.dev/check-requested-at")]
    check: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawSpec {
    region: Value,
    endpoint: Value,
    project_id: Value,
    app_id: Value,
    credentials_ref: Value,
    target: Value,
    suspend: Value,
}

impl RawStatus {
    /// What is held, or goes, has no next rotation.
    fn signs(&self, is_held: bool) -> Signs {
        // The first of the upcoming times is when a rotation was due, however long ago; the other one moves on to the next
        // window.
        let next = self.upcoming.get(0).unwrap_or(&self.next_rotation_time);
        let stalled = signs::condition(&self.conditions, ConditionType::Stalled);
        let ready = signs::condition(&self.conditions, ConditionType::Ready);
        Signs {
            last_success: signs::seconds(&self.last_rotation_time),
            next: signs::seconds(next).filter(|_| !is_held),
            stalled: stalled.and_then(|(status, why)| (status == "True").then_some(why)),
            unready: ready.map_or(Some(Why::Unseen), |(status, why)| (status != "True").then_some(why)),
        }
    }
}

impl<'de> Deserialize<'de> for Notice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        debug_assert!(
            ROTATE_REQUESTED_AT.ends_with("/rotate-requested-at")
                && ADOPT_FINGERPRINT.ends_with("/adopt-fingerprint")
                && CHECK_REQUESTED_AT.ends_with("/check-requested-at")
        );
        let Raw { metadata, spec, status } = Raw::deserialize(deserializer)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        // A region and its endpoint are one place, so that resources that name it either way know each other.
        let endpoint = match Endpoint::for_region(spec.region.as_str().unwrap_or_default()) {
            Ok(endpoint) => endpoint.modelarts,
            Err(_) => text(&spec.endpoint).trim_end_matches('/').to_owned(),
        };
        let target = spec
            .target
            .get("name")
            .and_then(Value::as_str)
            .unwrap_or(&metadata.name)
            .to_owned();
        let annotations = metadata.annotations.unwrap_or_default();
        let deleting = metadata.deletion_timestamp.is_some();
        Ok(Self {
            meta: ObjectMeta {
                namespace: Some(metadata.namespace.clone()),
                name: Some(metadata.name.clone()),
                uid: Some(metadata.uid.clone()),
                resource_version: metadata.resource_version,
                ..ObjectMeta::default()
            },
            namespace: metadata.namespace,
            name: metadata.name,
            uid: metadata.uid,
            generation: metadata.generation,
            observed: status.observed_generation.as_i64(),
            is_bystander: !status.observed_generation.is_null()
                && status.current.is_none()
                && status.rotation.is_none(),
            credentials: spec
                .credentials_ref
                .get("name")
                .and_then(Value::as_str)
                .map(str::to_owned),
            created: metadata.creation_timestamp.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            request: annotations.request,
            adopt: annotations.adopt,
            check: annotations.check,
            deleting,
            signs: status.signs(deleting || spec.suspend == true),
            target,
            app: (endpoint, text(&spec.project_id), text(&spec.app_id)),
        })
    }
}

/// The same kind of resource as [`AppCodeRotation`], read with other eyes.
impl Resource for Notice {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        AppCodeRotation::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        AppCodeRotation::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        AppCodeRotation::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        AppCodeRotation::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use serde_json::json;

    use super::*;
    use crate::api::Reason;

    #[test]
    fn reads_the_little_it_needs_and_nothing_stops_it() {
        let whole = json!({
            "apiVersion": "appcode.dev/v1alpha1", "kind": "AppCodeRotation",
            "metadata": { "namespace": "ns", "name": "a", "uid": "u", "generation": 3, "resourceVersion": "9",
                "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{ "manager": "x", "fieldsV1": {} }],
                "annotations": { ROTATE_REQUESTED_AT: "1", ADOPT_FINGERPRINT: "2", CHECK_REQUESTED_AT: "3", "other": "4" } },
            "spec": { "region": "cn-north-4", "projectId": "p", "appId": "x", "target": { "name": "secret" },
                "credentialsRef": { "name": "keys" } },
        });
        let notice: Notice = serde_json::from_value(whole).unwrap();
        assert_eq!(notice.key(), Key::new("ns", "a"));
        assert_eq!((notice.generation, notice.target.as_str()), (3, "secret"));
        assert_eq!(
            (notice.credentials.as_deref(), notice.is_bystander),
            (Some("keys"), false)
        );
        assert_eq!(
            [notice.request, notice.adopt, notice.check].map(Option::unwrap),
            ["1", "2", "3"]
        );
        assert_eq!(
            notice.app,
            (
                "https://modelarts.cn-north-4.myhuaweicloud.com".into(),
                "p".into(),
                "x".into()
            )
        );

        let odd = json!({
            "metadata": { "namespace": "ns", "name": "a" },
            "spec": { "appId": 7, "target": [], "region": {}, "credentialsRef": 1 },
            "status": { "observedGeneration": 1, "current": null, "conditions": [{ "type": "Ready" }, 7], "upcoming": {},
                "lastRotationTime": "never" },
        });
        let notice: Notice = serde_json::from_value(odd).unwrap();
        assert_eq!((notice.target.as_str(), notice.credentials), ("a", None));
        assert!(notice.is_bystander);
        assert_eq!(
            notice.signs,
            Signs {
                unready: Some(Why::Other),
                ..Signs::default()
            }
        );
    }

    fn signs(spec: &Value, status: &Value) -> Signs {
        let object = json!({ "metadata": { "namespace": "ns", "name": "a" }, "spec": spec, "status": status });
        serde_json::from_value::<Notice>(object).unwrap().signs
    }

    #[test]
    fn shows_what_status_tells_of_times_and_stops() {
        let condition = |kind, status, reason| json!({ "type": kind, "status": status, "reason": reason });
        let stopped = json!({
            "conditions": [condition("Stalled", "True", "Conflict"), condition("Ready", "False", "Conflict")],
            "lastRotationTime": "1970-01-01T00:01:00Z", "nextRotationTime": "1970-01-01T03:00:00Z",
            "upcoming": ["1970-01-01T02:00:00Z", "1970-01-01T04:00:00Z"],
        });
        let expected = Signs {
            last_success: NonZeroU32::new(60),
            next: NonZeroU32::new(7200),
            stalled: Some(Why::Told(Reason::Conflict)),
            unready: Some(Why::Told(Reason::Conflict)),
        };
        assert_eq!(signs(&json!({}), &stopped), expected);
        let held = Signs { next: None, ..expected };
        assert_eq!(signs(&json!({ "suspend": true }), &stopped), held);
        let well = json!({
            "conditions": [condition("Stalled", "False", "Idle"), condition("Ready", "True", "CodeListed")],
            "nextRotationTime": "1970-01-01T03:00:00Z",
        });
        let expected = Signs {
            next: NonZeroU32::new(10_800),
            ..Signs::default()
        };
        assert_eq!(signs(&json!({}), &well), expected);
        assert_eq!(signs(&json!({}), &json!({})).unready, Some(Why::Unseen));
    }
}
