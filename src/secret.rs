//! The target Secret as the log: the record in its annotations, whether it is ours, and the bodies that change it. Pure.
//!
//! The record is written by us and may be changed by whoever may write the Secret. So it is never trusted to act: it
//! can hold a rotation back, or be confirmed by what the cloud lists; it never chooses the app, the endpoint or a code
//! that the cloud does not list.

mod extras;
#[cfg(test)]
mod lines;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Map, Value, json};

pub use self::extras::{Contents, Extras, Owner, Rendered, Taken, Wish, is_marked, owners_patch};
use self::extras::{manager, wanted_owner};
use crate::api::{CreationPolicy, DeletionPolicy, MANAGER, SecretType};
use crate::ids::{AppId, AppIdentity, BadId, Fingerprint, ProjectId};
use crate::intent::{Intent, IntentError};
use crate::modelarts::AppCode;
use crate::template::Layout;

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
const RENDERED: &str = "appcode.dev/rendered";
const ADOPTED: &str = "appcode.dev/adopted-fingerprint";
/// On a Secret that the operator made, and that may therefore go with its resource: its own name, so that a copy does not
/// pass for it. No write takes it off or puts it on later.
pub const CREATED: &str = "appcode.dev/created";

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
    /// The code that a person had named as the answer to an ambiguity when one last became current. It answers nothing
    /// later.
    pub adopted: Option<Fingerprint>,
    /// When the rotations of the last day were started, oldest first; what the daily budget is counted by.
    pub recent: Vec<Timestamp>,
    /// The last rotation, open or persisted.
    pub intent: Option<Intent>,
    /// What was last written besides the code, if anything was.
    pub rendered: Option<Rendered>,
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
            adopted: None,
            recent: Vec::new(),
            intent: None,
            rendered: None,
        }
    }

    /// Stands for all that shapes what is ours on the Secret besides the code; none where that is nothing.
    pub fn shape(&self, layout: &Layout, key: &str, app_name: Option<&str>, listed: &[Fingerprint]) -> Option<String> {
        let previous = self.working_previous(listed);
        layout.shape(key, app_name.unwrap_or_default(), self.fingerprint?, previous)
    }

    /// The code before the one in the Secret, while both of them work: it is still to be retired, and the cloud lists it.
    pub fn working_previous(&self, listed: &[Fingerprint]) -> Option<Fingerprint> {
        let previous = self.intent.as_ref()?.retires()?;
        (listed.contains(&previous) && self.fingerprint != Some(previous)).then_some(previous)
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
            adopted: print(ADOPTED)?,
            recent: text(RECENT)
                .map(|times| times.split(' ').map(str::parse).collect())
                .transpose()
                .map_err(|_| RecordError::Annotation(RECENT))?
                .unwrap_or_default(),
            intent,
            rendered: text(RENDERED).and_then(Rendered::parse),
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
        map.insert(ADOPTED.into(), print(self.adopted));
        let recent: Vec<String> = self.recent.iter().map(Timestamp::to_string).collect();
        map.insert(RECENT.into(), json!((!recent.is_empty()).then(|| recent.join(" "))));
        map.insert(INTENT.into(), json!(self.intent.as_ref().map(Intent::to_text)));
        map.insert(RENDERED.into(), json!(self.rendered.as_ref().map(Rendered::to_text)));
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
    /// It is ours by label and annotation, or may be taken over.
    Ours(OurSecret),
    /// It was not made for this resource and may not be taken over. Left alone.
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
    /// The same as spec has it: what it may not use is not ours.
    #[must_use]
    pub fn strict(self) -> Self {
        match self {
            Self::Ours(OurSecret {
                unfit: Some(Unfit::Foreign(why)),
                ..
            }) => Self::Foreign { why },
            Self::Ours(secret) => Self::Ours(OurSecret {
                locked: secret.locked.or(match secret.unfit {
                    Some(Unfit::Kind(kind)) => Some(Lock::Kind(kind)),
                    _ => None,
                }),
                unfit: None,
                ..secret
            }),
            view => view,
        }
    }

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
    pub locked: Option<Lock>,
    /// Why spec, as it is now, may not use it, if so.
    pub unfit: Option<Unfit>,
    /// Whether it does not say yet that it belongs to this resource: it says another one, which is gone or gives way to
    /// this one, or nobody, and is to be taken over.
    pub is_inherited: bool,
    /// What else is ours on it.
    pub extras: Extras,
}

impl OurSecret {
    /// Whether it holds the code that its record names.
    pub fn is_in_sync(&self) -> bool {
        self.code.is_some() && self.code == self.record.fingerprint
    }

    /// Whether no resource has recorded anything on it.
    pub fn is_blank(&self) -> bool {
        self.is_inherited && self.record == Record::new(self.record.app.clone())
    }
}

/// Why a Secret that says that it belongs to the resource is none that its spec may use. Spec may have been edited while
/// a rotation was open: the code of that one is written all the same, since it could be lost otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unfit {
    /// The policy leaves it to others: how that is known.
    Foreign(&'static str),
    /// Its type is not this one, which spec asks for.
    Kind(SecretType),
}

/// Why a Secret cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lock {
    /// It is immutable.
    Immutable,
    /// It is being deleted, and a finalizer of others holds it.
    Going,
    /// Its type is not this one, which spec asks for.
    Kind(SecretType),
}

impl Lock {
    /// The same in words, about the Secret as "it".
    pub fn why(self) -> &'static str {
        match self {
            Self::Immutable => "it is immutable",
            Self::Going => "it is being deleted",
            Self::Kind(SecretType::Opaque) => "its type is not Opaque",
            Self::Kind(SecretType::BasicAuth) => "its type is not kubernetes.io/basic-auth",
        }
    }
}

/// Who asks whether a Secret is theirs.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// `namespace/name` of the resource whose Secret it is or was.
    pub resource: &'a str,
    /// Name of the resource that asks; another one where it may inherit the Secret.
    pub us: &'a str,
    /// Uid of the resource that asks; empty for one that is gone.
    pub uid: &'a str,
    /// The app of its spec.
    pub app: &'a AppIdentity,
    /// The app of its status, if that is another.
    pub former_app: Option<&'a AppIdentity>,
    /// Key under which the code stands.
    pub key: &'a str,
    /// How it may come to a Secret that exists; none for a Secret that its spec no longer names.
    pub creation: Option<CreationPolicy>,
    /// Whether the Secret goes with the resource.
    pub deletion: DeletionPolicy,
    /// Type that the Secret must have.
    pub kind: SecretType,
    /// What else is to stand on it.
    pub layout: Option<&'a Layout>,
    /// Key under which the code stood before, if status says so.
    pub shown_key: Option<&'a str>,
}

impl<'a> Asker<'a> {
    /// A resource `namespace/name` that says nothing more of its target.
    pub fn of(resource: &'a str, app: &'a AppIdentity, key: &'a str) -> Self {
        Self {
            resource,
            us: resource.split_once('/').map_or(resource, |(_, name)| name),
            uid: "",
            app,
            former_app: None,
            key,
            creation: Some(CreationPolicy::Create),
            deletion: DeletionPolicy::Retain,
            kind: SecretType::Opaque,
            layout: None,
            shown_key: None,
        }
    }

    /// Whether an owner reference to a resource of this name is ours to change.
    fn is_named(&self, name: &str) -> bool {
        let (_, keeper) = self.resource.split_once('/').unwrap_or_default();
        name == self.us || name == keeper
    }
}

/// The resource that a Secret of ours belongs to, as `namespace/name`. A Secret that others keep bears no label of ours.
pub fn keeper(secret: &Secret) -> Option<&str> {
    secret.metadata.annotations.as_ref()?.get(RESOURCE).map(String::as_str)
}

/// The one place that says whether an existing Secret may be written: by its label, its resource annotation, the app and
/// the policy.
pub fn view(secret: Option<&Secret>, asker: Asker<'_>) -> SecretView {
    let Some(secret) = secret else {
        return SecretView::Absent;
    };
    let foreign = |why| SecretView::Foreign { why };
    let meta = &secret.metadata;
    let none = BTreeMap::new();
    let annotations = meta.annotations.as_ref().unwrap_or(&none);
    let resource = annotations.get(RESOURCE).map(String::as_str);
    let others = if asker.creation == Some(CreationPolicy::Create) && !is_marked(secret) {
        Some(if resource == Some(asker.resource) {
            "it lacks the label app.kubernetes.io/managed-by: appcode-operator, as one does that others made"
        } else {
            "it was not made by this operator"
        })
    } else if asker.creation == Some(CreationPolicy::Adopt) && manager(secret).is_some_and(|by| by != MANAGER) {
        Some("somebody else manages it, as its label app.kubernetes.io/managed-by says")
    } else {
        None
    };
    if resource != Some(asker.resource) {
        return match (others, asker.creation, resource) {
            (Some(why), ..) => foreign(why),
            (None, Some(CreationPolicy::Adopt | CreationPolicy::Merge), None) => taken_over(secret, asker),
            _ => foreign("it belongs to another AppCodeRotation"),
        };
    }
    let record = match (Record::parse(annotations), others) {
        (Ok(record), _) => record,
        (Err(_), Some(why)) => return foreign(why),
        (Err(error), None) => return SecretView::Unreadable(error.to_string()),
    };
    if record.app != *asker.app && asker.former_app != Some(&record.app) {
        return foreign(others.unwrap_or("it was made for another app"));
    }
    let found = ours(secret, asker, record, false);
    SecretView::Ours(OurSecret {
        unfit: others.map(Unfit::Foreign).or(found.unfit),
        ..found
    })
}

/// A Secret that others made and that says nothing of any resource, as one to be taken over; refused before anything is
/// changed where that would end badly.
fn taken_over(secret: &Secret, asker: Asker<'_>) -> SecretView {
    let owners = secret.metadata.owner_references.as_ref();
    let is_controlled = owners.is_some_and(|owners| owners.iter().any(|owner| owner.controller == Some(true)));
    let found = ours(secret, asker, Record::new(asker.app.clone()), true);
    let unfit = found.unfit.map(|unfit| match unfit {
        Unfit::Foreign(why) => why,
        Unfit::Kind(kind) => Lock::Kind(kind).why(),
    });
    if let Some(why) = found.locked.map(Lock::why).or(unfit) {
        return SecretView::Foreign { why };
    }
    if asker.creation == Some(CreationPolicy::Adopt) && is_controlled {
        let why = "another object controls it, as its owner reference says";
        return SecretView::Foreign { why };
    }
    SecretView::Ours(found)
}

/// The code under `key`, if what stands there can be one. Editors and `echo` leave an end of line, which is none of it.
pub fn code_in(secret: &Secret, key: &str) -> Option<AppCode> {
    AppCode::parse(text_in(secret, key)?.trim_end_matches(['\r', '\n'])).ok()
}

fn text_in<'a>(secret: &'a Secret, key: &str) -> Option<&'a str> {
    std::str::from_utf8(&secret.data.as_ref()?.get(key)?.0).ok()
}

fn ours(secret: &Secret, asker: Asker<'_>, record: Record, is_inherited: bool) -> OurSecret {
    let meta = &secret.metadata;
    OurSecret {
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        code: code_in(secret, asker.key).map(|code| code.fingerprint(&record.app)),
        locked: locked(secret),
        unfit: other_kind(secret, asker).map(Unfit::Kind),
        is_inherited,
        extras: Extras::read(secret, record.rendered.as_ref(), asker),
        record,
    }
}

/// Why a Secret cannot be written, if so.
fn locked(secret: &Secret) -> Option<Lock> {
    if secret.metadata.deletion_timestamp.is_some() {
        // Made anew it would only wait for the finalizer.
        Some(Lock::Going)
    } else if secret.immutable == Some(true) {
        Some(Lock::Immutable)
    } else {
        None
    }
}

/// The type that spec asks for, if it is of another one.
fn other_kind(secret: &Secret, asker: Asker<'_>) -> Option<SecretType> {
    let kind = secret.type_.as_deref().unwrap_or(SecretType::Opaque.as_str());
    let is_kind = match asker.creation {
        Some(_) => kind == asker.kind.as_str(),
        // The type that an earlier spec asked for.
        None => [SecretType::Opaque, SecretType::BasicAuth]
            .iter()
            .any(|any| kind == any.as_str()),
    };
    (!is_kind).then_some(asker.kind)
}

/// What a new Secret is made with besides the record.
#[derive(Clone, Debug, Default)]
pub struct First {
    kind: SecretType,
    data: Option<(&'static str, String)>,
    owner: Option<Owner>,
    is_shared: bool,
}

impl First {
    /// As its layout wants it.
    pub fn of(layout: &Layout, asker: Asker<'_>, app_name: &str) -> Self {
        Self {
            kind: layout.kind(),
            data: layout.first_data(asker.key, asker.app, app_name),
            owner: wanted_owner(asker),
            is_shared: layout.creation == CreationPolicy::Merge,
        }
    }

    /// What the record says of it: the key is ours, and all is still to be written.
    fn rendered(&self) -> Option<Rendered> {
        let (key, _) = self.data.as_ref()?;
        Some(Rendered {
            data: vec![(*key).to_owned()],
            ..Rendered::default()
        })
    }
}

/// A new Secret: the record alone. It never holds a code, so a pod that waits for the Secret does not start with a code
/// that is about to die, and a stale writer cannot bring an old one back.
pub fn new_secret(namespace: &str, name: &str, resource: &str, record: &Record, first: First) -> Secret {
    let record = Record {
        rendered: first.rendered(),
        ..record.clone()
    };
    let annotations = record
        .annotations(resource)
        .into_iter()
        .filter_map(|(key, value)| match value {
            Value::String(text) => Some((key, text)),
            _ => None,
        });
    let mut secret = Secret {
        type_: Some(first.kind.as_str().to_owned()),
        data: first
            .data
            .map(|(key, text)| BTreeMap::from([(key.to_owned(), ByteString(text.into_bytes()))])),
        ..Secret::default()
    };
    secret.metadata.namespace = Some(namespace.to_owned());
    secret.metadata.name = Some(name.to_owned());
    secret.metadata.labels = Some(BTreeMap::from([(MANAGED_BY.to_owned(), MANAGER.to_owned())]));
    // One that is made only because a code would be lost otherwise is still others' to make.
    let mark = (!first.is_shared).then(|| (CREATED.to_owned(), name.to_owned()));
    secret.metadata.annotations = Some(annotations.chain(mark).collect());
    secret.metadata.owner_references = first.owner.map(|owner| vec![(&owner).into()]);
    secret
}

/// A merge patch that writes the record and, with `code`, the key's value and all else that is ours. It applies to
/// `resource_version` only.
pub fn patch(resource_version: &str, resource: &str, record: &Record, code: Option<CodeChange<'_>>) -> Value {
    let mut meta = Map::from_iter([("resourceVersion".to_owned(), json!(resource_version))]);
    let mut annotations = record.annotations(resource);
    let mut data = Map::new();
    if let Some(change) = code {
        if let Some(former) = change.former_key {
            data.insert(former.to_owned(), Value::Null);
        }
        if let Some(contents) = change.contents {
            data.extend(contents.data());
            // The record's own are never among them.
            annotations.extend(contents.annotations());
            let labels = contents.labels();
            if !labels.is_empty() {
                meta.insert("labels".into(), Value::Object(labels));
            }
            meta.extend(contents.owners().map(|owners| ("ownerReferences".to_owned(), owners)));
        }
        let value = ByteString(change.code.expose().as_bytes().to_vec());
        data.insert(change.key.to_owned(), json!(value));
    }
    meta.insert("annotations".into(), Value::Object(annotations));
    let mut patch = json!({ "metadata": meta });
    if let (false, Some(body)) = (data.is_empty(), patch.as_object_mut()) {
        body.insert("data".into(), Value::Object(data));
    }
    patch
}

/// Adds our label to a patch.
pub fn mark(patch: &mut Value) {
    if let Some(meta) = patch.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.insert("labels".into(), json!({ MANAGED_BY: MANAGER }));
    }
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
    /// What else is ours on the Secret; nothing is changed of it where the Secret is one that spec no longer names.
    pub contents: Option<&'a Contents>,
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
        view(Some(secret), Asker::of("ns/name", app, "appCode"))
    }

    #[test]
    fn a_new_secret_holds_the_record_and_no_code() {
        let secret = new_secret("ns", "name", "ns/name", &record(), First::default());
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
            contents: None,
        };
        let patch = patch("42", "ns/name", &record(), Some(change));
        assert_eq!(patch["metadata"]["resourceVersion"], "42");
        assert_eq!(patch["data"]["new"], "Y29kZQ==");
        assert_eq!(patch["data"]["old"], Value::Null);
        assert_eq!(patch["metadata"]["annotations"][INTENT], Value::Null);
    }

    #[test]
    fn a_secret_is_ours_only_by_label_resource_and_app() {
        let ours = new_secret("ns", "name", "ns/name", &record(), First::default());
        let mut no_label = ours.clone();
        no_label.metadata.labels = None;
        assert!(matches!(
            look(&no_label, &app("app")).strict(),
            SecretView::Foreign { .. }
        ));
        let copied = new_secret("ns", "name", "other/name", &record(), First::default());
        assert!(matches!(look(&copied, &app("app")), SecretView::Foreign { .. }));
        let (mine, other) = (app("app"), app("other"));
        assert!(matches!(look(&ours, &other), SecretView::Foreign { .. }));
        let asker = Asker {
            former_app: Some(&mine),
            ..Asker::of("ns/name", &other, "appCode")
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
            let mut secret = new_secret("ns", "name", "ns/name", &record(), First::default());
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
        let mut secret = new_secret("ns", "name", "ns/name", &record(), First::default());
        secret.immutable = Some(true);
        let SecretView::Ours(ours) = look(&secret, &app("app")) else {
            panic!("not ours")
        };
        assert!(ours.locked.is_some());
    }

    fn foreign(meta: &Value) -> Secret {
        let mut secret: Secret =
            serde_json::from_value(json!({"metadata": meta, "data": {"appCode": "Y29kZQ=="}})).unwrap();
        secret.metadata.resource_version = Some("7".into());
        secret
    }

    fn by(policy: CreationPolicy, secret: &Secret) -> SecretView {
        let app = app("app");
        let asker = Asker {
            creation: Some(policy),
            ..Asker::of("ns/name", &app, "appCode")
        };
        view(Some(secret), asker)
    }

    #[test]
    fn a_secret_of_nobodys_is_taken_over_only_by_policy() {
        use CreationPolicy::{Adopt, Create, Merge};
        let nobodys = foreign(&json!({"labels": {"a": "b"}}));
        assert!(matches!(by(Create, &nobodys), SecretView::Foreign { .. }));
        for policy in [Adopt, Merge] {
            let SecretView::Ours(found) = by(policy, &nobodys) else {
                panic!("not taken over")
            };
            assert!(found.is_inherited && found.is_blank());
            assert_eq!(found.code, Some(Fingerprint::of(&app("app").app_id, "code")));
            assert_eq!(found.resource_version, "7");
        }
        let others = foreign(&json!({"annotations": {"appcode.dev/resource": "ns/other"}}));
        let helms = foreign(&json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}}));
        for policy in [Create, Adopt, Merge] {
            assert!(matches!(by(policy, &others), SecretView::Foreign { .. }));
        }
        assert!(matches!(by(Adopt, &helms), SecretView::Foreign { .. }));
        assert!(matches!(by(Merge, &helms), SecretView::Ours(_)));
        // What was merged into says that it is ours, and that counts without the label.
        let mut merged = new_secret("ns", "name", "ns/name", &record(), First::default());
        merged.metadata.labels = None;
        assert!(matches!(by(Create, &merged).strict(), SecretView::Foreign { .. }));
        let SecretView::Ours(found) = by(Merge, &merged) else {
            panic!("not ours")
        };
        assert!(!found.is_inherited && !found.extras.is_astray);
        let SecretView::Ours(found) = by(Adopt, &merged) else {
            panic!("not ours")
        };
        assert!(found.extras.is_astray, "the mark is still to be put on it");
    }

    #[test]
    fn a_former_secret_is_ours_by_what_it_says_and_never_taken_over() {
        let app = app("app");
        let asker = Asker {
            creation: None,
            kind: SecretType::BasicAuth,
            ..Asker::of("ns/name", &app, "appCode")
        };
        let mut merged = new_secret("ns", "name", "ns/name", &record(), First::default());
        merged.metadata.labels = None;
        let SecretView::Ours(found) = view(Some(&merged), asker) else {
            panic!("not ours")
        };
        assert_eq!(found.locked, None, "its type is that of an earlier spec");
        assert!(matches!(
            view(Some(&foreign(&json!({}))), asker),
            SecretView::Foreign { .. }
        ));
    }

    #[test]
    fn a_write_changes_what_is_ours_and_names_nothing_else() {
        let code = AppCode::parse("code").unwrap();
        let wish = |rendition| Wish {
            shape: Some("shape".into()),
            key: "appCode",
            previous: Some(("previous", Some(&code))),
            rendition,
        };
        let before = Rendered {
            data: ["appCode", "gone", "url"].map(str::to_owned).into(),
            labels: vec!["gone".into()],
            annotations: vec!["gone".into()],
            ..Rendered::default()
        };
        let mut rendition = crate::template::Rendition::default();
        rendition.data.insert("url".into(), "https://code".to_owned().into());
        let contents = Contents::of(
            wish(Ok(rendition)),
            Some(&before),
            &Extras::default(),
            CreationPolicy::Create,
        );
        assert!(!format!("{contents:?}").contains("https"), "{contents:?}");
        let rendered = contents.rendered.clone().unwrap();
        assert_eq!(rendered.data, ["previous", "url"]);
        let record = Record {
            rendered: contents.rendered.clone(),
            ..record()
        };
        let change = CodeChange {
            key: "appCode",
            former_key: Some("appCode"),
            code: &code,
            contents: Some(&contents),
        };
        let body = patch("7", "ns/name", &record, Some(change));
        assert_eq!(
            body["data"],
            json!({"appCode": "Y29kZQ==", "gone": null, "previous": "Y29kZQ==", "url": "aHR0cHM6Ly9jb2Rl"})
        );
        assert_eq!(body["metadata"]["labels"], json!({"gone": null}));
        assert_eq!(body["metadata"]["annotations"]["gone"], Value::Null);
        assert_eq!(body["metadata"].get("ownerReferences"), None);

        let fault = crate::template::Fault {
            field: "field".into(),
            line: None,
            what: "fails",
        };
        let failed = Contents::of(
            wish(Err(fault)),
            Some(&before),
            &Extras::default(),
            CreationPolicy::Merge,
        );
        let rendered = failed.rendered.clone().unwrap();
        assert_eq!(rendered.fault.as_deref(), Some("field fails"));
        assert_eq!(rendered.labels, ["gone"], "what stands there is still ours");
        let body = patch(
            "7",
            "ns/name",
            &record,
            Some(CodeChange {
                contents: Some(&failed),
                ..change
            }),
        );
        assert_eq!(body["data"], json!({"appCode": "Y29kZQ==", "previous": "Y29kZQ=="}));
        assert_eq!(body["metadata"].get("labels"), None);
    }

    #[test]
    fn what_was_rendered_is_read_again_and_missed_when_it_is_changed() {
        let mut secret = foreign(&json!({"labels": {"team": "a"}, "annotations": {"note": "b"}}));
        let mut rendition = crate::template::Rendition::default();
        rendition.data.insert("appCode".into(), "code".to_owned().into());
        rendition.labels.insert("team".into(), "a".into());
        rendition.annotations.insert("note".into(), "b".into());
        let wish = Wish {
            shape: Some("shape".into()),
            key: "key",
            previous: None,
            rendition: Ok(rendition),
        };
        let contents = Contents::of(wish, None, &Extras::default(), CreationPolicy::Merge);
        let record = Record {
            rendered: contents.rendered,
            ..record()
        };
        let written = record.annotations("ns/name");
        let annotations = secret.metadata.annotations.as_mut().unwrap();
        annotations.extend(
            written
                .iter()
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))),
        );
        let is_astray = |secret: &Secret| match by(CreationPolicy::Merge, secret) {
            SecretView::Ours(found) => {
                assert_eq!(found.record, record);
                found.extras.is_astray
            }
            other => panic!("{other:?}"),
        };
        assert!(!is_astray(&secret));
        let changes: [fn(&mut Secret); 4] = [
            |secret| secret.data = None,
            |secret| secret.metadata.labels = None,
            |secret| secret.metadata.labels = Some([("team".to_owned(), "c".to_owned())].into()),
            |secret| drop(secret.metadata.annotations.as_mut().unwrap().remove("note")),
        ];
        for change in changes {
            let mut edited = secret.clone();
            change(&mut edited);
            assert!(is_astray(&edited));
        }
        // What others add is nobody's business.
        secret
            .data
            .as_mut()
            .unwrap()
            .insert("theirs".into(), ByteString(vec![1]));
        assert!(!is_astray(&secret));
    }
}
