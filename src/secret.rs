//! The target Secret as the log: the record in its annotations, whether it is ours, and the bodies that change it. Pure.
//!
//! The record is written by us and may be changed by whoever may write the Secret. So it is never trusted to act: it
//! can hold a rotation back, or be confirmed by what the cloud lists; it never chooses the app, the endpoint or a code
//! that the cloud does not list.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Map, Value, json};

use crate::api::MANAGER;
use crate::ids::{AppId, AppIdentity, BadId, Fingerprint, ProjectId};
use crate::intent::{Intent, IntentError};
use crate::modelarts::AppCode;

/// Label that marks our Secrets.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The resource that the Secret belongs to, as `namespace/name`.
pub const RESOURCE: &str = "appcode.dev/resource";
const APP: &str = "appcode.dev/app";
const NUMBER: &str = "appcode.dev/rotation-number";
const FINGERPRINT: &str = "appcode.dev/fingerprint";
const PREVIOUS: &str = "appcode.dev/previous-fingerprint";
const ROTATED_AT: &str = "appcode.dev/rotated-at";
const SEED: &str = "appcode.dev/seed-fingerprint";
const HANDLED_TRIGGER: &str = "appcode.dev/last-handled-trigger";
const HANDLED_REQUEST: &str = "appcode.dev/last-handled-request";
const RECENT: &str = "appcode.dev/recent-rotations";
const INTENT: &str = "appcode.dev/intent";

/// Numbers above this were not counted by us: one rotation a second takes longer than the universe has lasted.
pub(crate) const NUMBER_LIMIT: i64 = 1 << 60;

/// State that must not be lost, as it stands in the annotations.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// The app that the rest is about.
    pub app: AppIdentity,
    /// Number of the rotation that made the code in the Secret; zero for a seed that was taken over.
    pub number: i64,
    /// The code that the Secret should hold; none before the first one is known.
    pub fingerprint: Option<Fingerprint>,
    /// The code before it.
    pub previous: Option<Fingerprint>,
    /// When that code became current.
    pub rotated_at: Option<Timestamp>,
    /// The seed that was last taken into account.
    pub seed: Option<Fingerprint>,
    /// The `rotationTrigger` that was last taken into account.
    pub handled_trigger: Option<String>,
    /// The request that was last taken into account.
    pub handled_request: Option<String>,
    /// When the rotations of the last day were started, oldest first; what the daily budget is counted by.
    pub recent: Vec<Timestamp>,
    /// The last rotation, open or persisted.
    pub intent: Option<Intent>,
}

/// Why a record cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The intent is of another format.
    #[error(transparent)]
    Intent(#[from] IntentError),
    /// An annotation is not what we write.
    #[error("annotation {0} on the Secret cannot be read")]
    Annotation(&'static str),
}

impl Record {
    /// A record for `app` before anything happened.
    pub fn new(app: AppIdentity) -> Self {
        Self {
            app,
            number: 0,
            fingerprint: None,
            previous: None,
            rotated_at: None,
            seed: None,
            handled_trigger: None,
            handled_request: None,
            recent: Vec::new(),
            intent: None,
        }
    }

    /// The highest rotation number that stands in it.
    pub fn highest_number(&self) -> i64 {
        self.intent
            .as_ref()
            .map_or(self.number, |intent| intent.number.max(self.number))
    }

    /// The open intent, if its number is above `completed` (an intent at or below it is stale).
    pub fn open_intent(&self, completed: i64) -> Option<&Intent> {
        let floor = self.number.max(completed);
        self.intent
            .as_ref()
            .filter(|intent| intent.is_open() && intent.number > floor)
    }

    fn parse(annotations: &BTreeMap<String, String>) -> Result<Self, RecordError> {
        let text = |key: &str| annotations.get(key).map(String::as_str).filter(|text| !text.is_empty());
        let print = |key: &'static str| {
            text(key)
                .map(Fingerprint::parse)
                .transpose()
                .map_err(|_| RecordError::Annotation(key))
        };
        let app = text(APP)
            .and_then(|text| parse_app(text).ok())
            .ok_or(RecordError::Annotation(APP))?;
        let number = text(NUMBER)
            .map_or(Ok(0), str::parse::<i64>)
            .map_err(|_| RecordError::Annotation(NUMBER))?;
        let intent = text(INTENT).map(Intent::parse).transpose()?;
        let highest = intent.as_ref().map_or(number, |intent| number.max(intent.number));
        if number < 0 || highest > NUMBER_LIMIT {
            return Err(RecordError::Annotation(NUMBER));
        }
        Ok(Self {
            app,
            number,
            fingerprint: print(FINGERPRINT)?,
            previous: print(PREVIOUS)?,
            rotated_at: text(ROTATED_AT)
                .map(str::parse)
                .transpose()
                .map_err(|_| RecordError::Annotation(ROTATED_AT))?,
            seed: print(SEED)?,
            handled_trigger: text(HANDLED_TRIGGER).map(str::to_owned),
            handled_request: text(HANDLED_REQUEST).map(str::to_owned),
            recent: text(RECENT)
                .map(|times| times.split(' ').map(str::parse).collect())
                .transpose()
                .map_err(|_| RecordError::Annotation(RECENT))?
                .unwrap_or_default(),
            intent,
        })
    }

    /// The annotations; `null` removes one that a merge patch finds.
    fn annotations(&self, resource: &str) -> Map<String, Value> {
        let print = |print: Option<Fingerprint>| json!(print.map(|print| print.to_string()));
        let mut map = Map::new();
        map.insert(RESOURCE.into(), json!(resource));
        map.insert(APP.into(), json!(self.app.to_string()));
        map.insert(NUMBER.into(), json!(self.number.to_string()));
        map.insert(FINGERPRINT.into(), print(self.fingerprint));
        map.insert(PREVIOUS.into(), print(self.previous));
        map.insert(ROTATED_AT.into(), json!(self.rotated_at.map(|time| time.to_string())));
        map.insert(SEED.into(), print(self.seed));
        map.insert(HANDLED_TRIGGER.into(), json!(self.handled_trigger));
        map.insert(HANDLED_REQUEST.into(), json!(self.handled_request));
        let recent: Vec<String> = self.recent.iter().map(Timestamp::to_string).collect();
        map.insert(RECENT.into(), json!((!recent.is_empty()).then(|| recent.join(" "))));
        map.insert(INTENT.into(), json!(self.intent.as_ref().map(Intent::to_text)));
        map
    }
}

/// Reads `endpoint/project/app`; neither of the last two holds a slash.
fn parse_app(text: &str) -> Result<AppIdentity, BadId> {
    let bad = BadId {
        what: "app",
        rule: "endpoint/project/app",
    };
    let mut parts = text.rsplitn(3, '/');
    let (app, project) = (parts.next().ok_or(bad.clone())?, parts.next().ok_or(bad.clone())?);
    Ok(AppIdentity {
        endpoint: parts.next().ok_or(bad)?.to_owned(),
        project_id: ProjectId::parse(project)?,
        app_id: AppId::parse(app)?,
    })
}

/// What a live read of a Secret says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(
    clippy::large_enum_variant,
    reason = "a pass holds two of them; a box would only stand in the way of matching"
)]
pub enum SecretView {
    /// There is none of that name.
    Absent,
    /// It is ours by label and annotation.
    Ours(OurSecret),
    /// It was not made for this resource. Left alone.
    Foreign {
        /// How that is known.
        why: &'static str,
    },
    /// It is ours but its record cannot be used.
    Unreadable(String),
    /// It belongs to another resource of this namespace, which keeps it: its name.
    Claimed(String),
    /// The API server does not let us read it: why.
    Forbidden(String),
}

impl SecretView {
    /// The Secret, if it is ours and its record can be used.
    pub fn ours(&self) -> Option<&OurSecret> {
        match self {
            Self::Ours(secret) => Some(secret),
            Self::Absent | Self::Foreign { .. } | Self::Unreadable(_) | Self::Claimed(_) | Self::Forbidden(_) => None,
        }
    }

    /// The same, but not a Secret that this resource is only about to take over: what that says is another one's story.
    pub fn own(&self) -> Option<&OurSecret> {
        self.ours().filter(|secret| !secret.is_inherited)
    }
}

/// A Secret that was made for this resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OurSecret {
    /// Every write carries it: a stale writer gets a conflict.
    pub resource_version: String,
    /// The record.
    pub record: Record,
    /// The code under the target key, as a code of the record's app; none if the key is absent or holds no code.
    pub code: Option<Fingerprint>,
    /// Why it cannot be written, if so.
    pub locked: Option<&'static str>,
    /// Whether it still says that it belongs to another resource, which is gone or gives way to this one.
    pub is_inherited: bool,
}

impl OurSecret {
    /// Whether it holds the code that its record names.
    pub fn is_in_sync(&self) -> bool {
        self.code.is_some() && self.code == self.record.fingerprint
    }
}

/// Who asks whether a Secret is theirs.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// `namespace/name` of the resource.
    pub resource: &'a str,
    /// The app of its spec.
    pub app: &'a AppIdentity,
    /// The app of its status, if that is another.
    pub former_app: Option<&'a AppIdentity>,
    /// Key under which the code stands.
    pub key: &'a str,
}

/// The resource that a Secret of ours belongs to, as `namespace/name`.
pub fn keeper(secret: &Secret) -> Option<&str> {
    let labels = secret.metadata.labels.as_ref()?;
    labels.get(MANAGED_BY).filter(|by| *by == MANAGER)?;
    secret.metadata.annotations.as_ref()?.get(RESOURCE).map(String::as_str)
}

/// The one place that says whether an existing Secret may be written: by its label, its resource annotation and the app.
pub fn view(secret: Option<&Secret>, asker: Asker<'_>) -> SecretView {
    let Some(secret) = secret else {
        return SecretView::Absent;
    };
    let meta = &secret.metadata;
    let none = BTreeMap::new();
    let annotations = meta.annotations.as_ref().unwrap_or(&none);
    if meta
        .labels
        .as_ref()
        .and_then(|labels| labels.get(MANAGED_BY))
        .is_none_or(|by| by != MANAGER)
    {
        return SecretView::Foreign {
            why: "it was not made by this operator",
        };
    }
    if annotations
        .get(RESOURCE)
        .is_none_or(|resource| resource != asker.resource)
    {
        return SecretView::Foreign {
            why: "it belongs to another AppCodeRotation",
        };
    }
    let record = match Record::parse(annotations) {
        Ok(record) => record,
        Err(error) => return SecretView::Unreadable(error.to_string()),
    };
    if record.app != *asker.app && asker.former_app != Some(&record.app) {
        return SecretView::Foreign {
            why: "it was made for another app",
        };
    }
    let value = secret.data.as_ref().and_then(|data| data.get(asker.key));
    let code = value.and_then(|value| std::str::from_utf8(&value.0).ok());
    let locked = if secret.immutable == Some(true) {
        Some("it is immutable")
    } else if meta.deletion_timestamp.is_some() {
        Some("it is being deleted")
    } else if secret.type_.as_deref().is_some_and(|kind| kind != "Opaque") {
        Some("its type is not Opaque")
    } else {
        None
    };
    SecretView::Ours(OurSecret {
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        code: code.map(|code| Fingerprint::of(&record.app.app_id, code)),
        record,
        locked,
        is_inherited: false,
    })
}

/// A new Secret: the record alone. It never holds a code, so a pod that waits for the Secret does not start with a code
/// that is about to die, and a stale writer cannot bring an old one back.
pub fn new_secret(namespace: &str, name: &str, resource: &str, record: &Record) -> Secret {
    let annotations = record
        .annotations(resource)
        .into_iter()
        .filter_map(|(key, value)| match value {
            Value::String(text) => Some((key, text)),
            _ => None,
        });
    let mut secret = Secret {
        type_: Some("Opaque".into()),
        ..Secret::default()
    };
    secret.metadata.namespace = Some(namespace.to_owned());
    secret.metadata.name = Some(name.to_owned());
    secret.metadata.labels = Some(BTreeMap::from([(MANAGED_BY.to_owned(), MANAGER.to_owned())]));
    secret.metadata.annotations = Some(annotations.collect());
    secret
}

/// A merge patch that writes the record and, with `code`, the key's value. It applies to `resource_version` only.
pub fn patch(resource_version: &str, resource: &str, record: &Record, code: Option<CodeChange<'_>>) -> Value {
    let mut patch = json!({
        "metadata": { "resourceVersion": resource_version, "annotations": record.annotations(resource) },
    });
    if let (Some(change), Some(body)) = (code, patch.as_object_mut()) {
        let value = ByteString(change.code.expose().as_bytes().to_vec());
        let mut data = Map::from_iter([(change.key.to_owned(), json!(value))]);
        if let Some(former) = change.former_key.filter(|former| *former != change.key) {
            data.insert(former.to_owned(), Value::Null);
        }
        body.insert("data".into(), Value::Object(data));
    }
    patch
}

/// A code to write, and where.
#[derive(Clone, Copy, Debug)]
pub struct CodeChange<'a> {
    /// Key to write.
    pub key: &'a str,
    /// Key that held the code before and is removed.
    pub former_key: Option<&'a str>,
    /// The code.
    pub code: &'a AppCode,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(id: &str) -> AppIdentity {
        AppIdentity {
            endpoint: "https://modelarts.example.com:8443".into(),
            project_id: ProjectId::parse("project").unwrap(),
            app_id: AppId::parse(id).unwrap(),
        }
    }

    fn record() -> Record {
        Record {
            number: 4,
            fingerprint: Some(Fingerprint::of(&app("app").app_id, "code")),
            rotated_at: Some(Timestamp::UNIX_EPOCH),
            handled_trigger: Some("t\"1\n".into()),
            ..Record::new(app("app"))
        }
    }

    fn look(secret: &Secret, app: &AppIdentity) -> SecretView {
        view(
            Some(secret),
            Asker {
                resource: "ns/name",
                app,
                former_app: None,
                key: "appCode",
            },
        )
    }

    #[test]
    fn a_new_secret_holds_the_record_and_no_code() {
        let secret = new_secret("ns", "name", "ns/name", &record());
        assert!(secret.data.is_none() && secret.string_data.is_none());
        let SecretView::Ours(ours) = look(&secret, &app("app")) else {
            panic!("not ours")
        };
        assert_eq!(ours.record, record());
        assert_eq!(ours.code, None);
    }

    #[test]
    fn a_patch_carries_the_version_it_was_decided_on_and_removes_what_is_gone() {
        let code = AppCode::parse("code").unwrap();
        let change = CodeChange {
            key: "new",
            former_key: Some("old"),
            code: &code,
        };
        let patch = patch("42", "ns/name", &record(), Some(change));
        assert_eq!(patch["metadata"]["resourceVersion"], "42");
        assert_eq!(patch["data"]["new"], "Y29kZQ==");
        assert_eq!(patch["data"]["old"], Value::Null);
        assert_eq!(patch["metadata"]["annotations"][INTENT], Value::Null);
    }

    #[test]
    fn a_secret_is_ours_only_by_label_resource_and_app() {
        let ours = new_secret("ns", "name", "ns/name", &record());
        let mut no_label = ours.clone();
        no_label.metadata.labels = None;
        assert!(matches!(look(&no_label, &app("app")), SecretView::Foreign { .. }));
        let copied = new_secret("ns", "name", "other/name", &record());
        assert!(matches!(look(&copied, &app("app")), SecretView::Foreign { .. }));
        assert!(matches!(look(&ours, &app("other")), SecretView::Foreign { .. }));
        let asker = Asker {
            resource: "ns/name",
            app: &app("other"),
            former_app: Some(&app("app")),
            key: "appCode",
        };
        assert!(matches!(view(Some(&ours), asker), SecretView::Ours(_)));
    }

    #[test]
    fn a_forged_or_broken_record_is_unreadable_rather_than_obeyed() {
        for (key, value) in [
            (NUMBER, "-1"),
            (NUMBER, "9223372036854775807"),
            (NUMBER, "x"),
            (FINGERPRINT, "xyz"),
            (ROTATED_AT, "yesterday"),
            (INTENT, "{\"formatVersion\":99}"),
            (INTENT, "garbage"),
            (APP, "nothing"),
        ] {
            let mut secret = new_secret("ns", "name", "ns/name", &record());
            secret
                .metadata
                .annotations
                .as_mut()
                .unwrap()
                .insert(key.into(), value.into());
            assert!(
                matches!(look(&secret, &app("app")), SecretView::Unreadable(_)),
                "{key} {value}"
            );
        }
    }

    #[test]
    fn an_immutable_or_vanishing_secret_is_locked() {
        let mut secret = new_secret("ns", "name", "ns/name", &record());
        secret.immutable = Some(true);
        let SecretView::Ours(ours) = look(&secret, &app("app")) else {
            panic!("not ours")
        };
        assert!(ours.locked.is_some());
    }
}
