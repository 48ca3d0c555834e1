//! The target Secret as the log: the record in its annotations, whether it is ours, and the bodies that change it. Pure.
//!
//! The record is written by us and may be changed by whoever may write the Secret. So it is never trusted to act: it
//! can hold a rotation back, or be confirmed by what the cloud lists; it never chooses the app, the endpoint or a code
//! that the cloud does not list.

mod extras;
#[cfg(test)]
mod lines;
mod record;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;

use self::extras::manager;
pub use self::extras::{Contents, Extras, Owner, Rendered, Taken, Wish, is_marked, owners_patch};
pub(crate) use self::record::NUMBER_LIMIT;
pub use self::record::{RESOURCE, Record, RecordError};
pub use self::write::{CodeChange, First, mark, new_secret, patch};
use crate::api::{CreationPolicy, DeletionPolicy, MANAGER, SecretType};
use crate::ids::{AppIdentity, Fingerprint};
use crate::modelarts::AppCode;
use crate::template::Layout;

/// Label that marks our Secrets.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// On a Secret that the operator made, and that may therefore go with its resource: its own name, so that a copy does not
/// pass for it. No write takes it off or puts it on later.
pub const CREATED: &str = "appcode.dev/created";

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
