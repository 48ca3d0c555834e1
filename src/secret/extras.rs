//! What is ours on the Secret besides the code and the record: rendered keys, labels, annotations and the owner reference.
//!
//! One annotation says what was written, so that the next write can tell it from what others put there: that is never
//! touched. It is no more trusted than the record; it cannot name the record's own annotations.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Asker, CREATED, MANAGED_BY, code_in, text_in};
use crate::api::{AppCodeRotation, CreationPolicy, DeletionPolicy, GROUP, MANAGER};
use crate::ids::hex_digest;
use crate::modelarts::AppCode;
use crate::template::{Fault, Rendition, is_ours, is_reserved};

/// What was last written besides the code, as it stands in one annotation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rendered {
    /// Stands for all that shaped it.
    pub shape: String,
    /// Digest of what was written.
    pub content: String,
    /// Keys that were written, the one of the previous code included.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<String>,
    /// Labels that were written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Annotations that were written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<String>,
    /// Why nothing could be rendered though all had been tried before: where the fault is, without a value. The keys
    /// named are then as an earlier write left them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

impl Rendered {
    /// Reads the annotation. What is not ours to write is not ours to remove, whatever it says; what cannot be read says
    /// nothing, so that all is written anew.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut read: Self = serde_json::from_str(text).ok()?;
        let is_free = |key: &String| !is_ours(key) && !is_reserved(key);
        read.labels.retain(is_free);
        read.annotations.retain(is_free);
        Some(read)
    }

    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() // texts only: cannot fail
    }

    /// Whether all that it names still stands there as it was written.
    fn is_intact(&self, secret: &Secret) -> bool {
        let none = BTreeMap::new();
        let meta = &secret.metadata;
        let data = secret.data.as_ref();
        let present = |keys: &[String], map: Option<&BTreeMap<String, String>>| -> Vec<(String, Option<String>)> {
            let map = map.unwrap_or(&none);
            keys.iter().map(|key| (key.clone(), map.get(key).cloned())).collect()
        };
        let values = self.data.iter().map(|key| {
            let value = data.and_then(|data| data.get(key));
            (key.clone(), value.map(|value| value.0.as_slice()))
        });
        let labels = present(&self.labels, meta.labels.as_ref());
        let annotations = present(&self.annotations, meta.annotations.as_ref());
        self.fault.is_some() || content(values, &labels, &annotations) == self.content
    }
}

fn content<'a>(
    data: impl Iterator<Item = (String, Option<&'a [u8]>)>,
    labels: &[(String, Option<String>)],
    annotations: &[(String, Option<String>)],
) -> String {
    // Each value by its own digest: what stands in an annotation is made from digests of long texts only.
    let data: Vec<_> = data.map(|(key, value)| (key, value.map(hex_digest))).collect();
    hex_digest(json!([data, labels, annotations]).to_string().as_bytes())
}

/// An owner reference.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    controller: Option<bool>,
    block_owner_deletion: Option<bool>,
}

impl Owner {
    /// The reference of a resource to which its Secret belongs. It does not block the resource's deletion, which would
    /// need a right on the resource.
    fn resource(name: &str, uid: &str) -> Self {
        Self {
            api_version: AppCodeRotation::api_version(&()).into_owned(),
            kind: AppCodeRotation::kind(&()).into_owned(),
            name: name.to_owned(),
            uid: uid.to_owned(),
            controller: Some(true),
            block_owner_deletion: None,
        }
    }

    /// Whether it names the resource of `asker`, under whatever uid: an earlier one of the same name counts.
    fn is_of(&self, asker: Asker<'_>) -> bool {
        let group = self.api_version.split_once('/').map(|(group, _)| group);
        group == Some(GROUP) && self.kind == AppCodeRotation::kind(&()) && asker.is_named(&self.name)
    }

    fn is_same(&self, other: &Self) -> bool {
        let is_blocking = |owner: &Self| owner.block_owner_deletion.unwrap_or_default();
        (&self.api_version, &self.name, &self.uid) == (&other.api_version, &other.name, &other.uid)
            && self.controller == other.controller
            && is_blocking(self) == is_blocking(other)
    }
}

impl From<&OwnerReference> for Owner {
    fn from(owner: &OwnerReference) -> Self {
        Self {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
            controller: owner.controller,
            block_owner_deletion: owner.block_owner_deletion,
        }
    }
}

impl From<&Owner> for OwnerReference {
    fn from(owner: &Owner) -> Self {
        Self {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
            controller: owner.controller,
            block_owner_deletion: owner.block_owner_deletion,
        }
    }
}

/// What a live read says of all this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Extras {
    /// Whether something that is ours is not as it was written, or the mark or owner are not as they should be.
    pub is_astray: bool,
    /// The whole list of owners as it should be, where it is not.
    pub owners: Option<Vec<Owner>>,
    /// Whether it may go with its resource: the operator made it, or it bears the resource's owner reference already.
    pub is_made: bool,
    /// Something that spec names and that others have put there.
    pub taken: Option<Taken>,
}

/// Something on the Secret that is not ours to write.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Taken {
    /// A key of its data.
    Key(String),
    /// A label.
    Label(String),
    /// An annotation.
    Annotation(String),
}

impl Taken {
    /// The first that stands there though no write of ours is on record for it.
    fn of(secret: &Secret, rendered: Option<&Rendered>, asker: Asker<'_>) -> Option<Self> {
        let layout = asker.layout.filter(|_| asker.creation.is_some())?;
        let nothing = Rendered::default();
        let before = rendered.unwrap_or(&nothing);
        let template = &layout.template;
        let is_codes = |key: &str| key == asker.key || asker.shown_key == Some(key);
        let mut keys = template.data.keys().chain(&layout.previous_key);
        let data = secret.data.as_ref();
        let key = keys.find(|key| {
            let is_there = data.is_some_and(|data| data.contains_key(*key));
            is_there && !before.data.contains(key) && !is_codes(key)
        });
        let mut labels = template.labels.keys();
        let label = labels.find(|key| secret.labels().contains_key(*key) && !before.labels.contains(key));
        let mut annotations = template.annotations.keys();
        let annotation =
            annotations.find(|key| secret.annotations().contains_key(*key) && !before.annotations.contains(key));
        let key = key.cloned().map(Self::Key);
        key.or_else(|| label.cloned().map(Self::Label))
            .or_else(|| annotation.cloned().map(Self::Annotation))
    }
}

impl Extras {
    pub(super) fn read(secret: &Secret, rendered: Option<&Rendered>, asker: Asker<'_>) -> Self {
        let owners = owners(secret, asker);
        // The code with an end of line would be another one for those who read it.
        let is_trimmed =
            code_in(secret, asker.key).is_none_or(|code| text_in(secret, asker.key) == Some(code.expose()));
        let is_marked = asker.creation.is_none_or(|creation| creation == CreationPolicy::Merge) || is_marked(secret);
        let is_intact = rendered.is_none_or(|rendered| rendered.is_intact(secret));
        Self {
            is_astray: owners.is_some() || !is_marked || !is_intact || !is_trimmed,
            owners,
            is_made: is_made(secret, asker),
            taken: Taken::of(secret, rendered, asker),
        }
    }
}

/// Whether the Secret bears the operator's label.
pub fn is_marked(secret: &Secret) -> bool {
    manager(secret).is_some_and(|by| by == MANAGER)
}

/// Who says that it manages the Secret.
pub(super) fn manager(secret: &Secret) -> Option<&str> {
    secret.metadata.labels.as_ref()?.get(MANAGED_BY).map(String::as_str)
}

/// Whether the operator made the Secret. Versions before the mark set the owner reference at once, so that one that stands
/// there is as good.
fn is_made(secret: &Secret, asker: Asker<'_>) -> bool {
    let is_marked =
        secret.annotations().get(CREATED) == secret.metadata.name.as_ref() && secret.metadata.name.is_some();
    is_marked
        || secret
            .owner_references()
            .iter()
            .any(|owner| Owner::from(owner).is_of(asker))
}

/// The list of owners with the resource on it or not, as its policy says; none where that is so. For a resource that is
/// gone nothing is changed, and a Secret that it no longer names is only released, where it keeps what it had. A Secret that others made gets no owner: the garbage
/// collector would take it from them.
fn owners(secret: &Secret, asker: Asker<'_>) -> Option<Vec<Owner>> {
    let is_kept = asker.creation.is_some() || asker.deletion == DeletionPolicy::Retain;
    if asker.uid.is_empty() || !is_kept {
        return None;
    }
    let present: Vec<Owner> = secret.owner_references().iter().map(Owner::from).collect();
    let wanted = wanted_owner(asker).filter(|_| is_made(secret, asker));
    let ours: Vec<&Owner> = present.iter().filter(|owner| owner.is_of(asker)).collect();
    let is_so = match (&wanted, ours.as_slice()) {
        (None, []) => true,
        (Some(wanted), [one]) => one.is_same(wanted),
        _ => false,
    };
    let others = present.iter().filter(|owner| !owner.is_of(asker)).cloned();
    (!is_so).then(|| others.chain(wanted).collect())
}

pub(super) fn wanted_owner(asker: Asker<'_>) -> Option<Owner> {
    let is_owned = asker.deletion == DeletionPolicy::Delete && !asker.uid.is_empty();
    is_owned.then(|| Owner::resource(asker.us, asker.uid))
}

/// A merge patch that sets the owners alone. It applies to `resource_version` only.
pub fn owners_patch(resource_version: &str, owners: &[Owner]) -> Value {
    let owners: Vec<OwnerReference> = owners.iter().map(OwnerReference::from).collect();
    json!({ "metadata": { "resourceVersion": resource_version, "ownerReferences": owners } })
}

/// What to write besides the plain code; `None` removes what an earlier write left.
#[derive(Debug, Default)]
pub struct Contents {
    data: BTreeMap<String, Option<SecretString>>,
    labels: BTreeMap<String, Option<String>>,
    annotations: BTreeMap<String, Option<String>>,
    owners: Option<Vec<Owner>>,
    /// What the annotation will say.
    pub rendered: Option<Rendered>,
}

/// What is to stand on the Secret besides the plain code.
#[derive(Debug)]
pub struct Wish<'a> {
    /// Stands for all that shaped it; none where nothing but the plain code is wanted.
    pub shape: Option<String>,
    /// Key of the plain code, which no other key may be.
    pub key: &'a str,
    /// Key of the code before, and that code while it works.
    pub previous: Option<(&'a str, Option<&'a AppCode>)>,
    /// What the templates came to.
    pub rendition: Result<Rendition, Fault>,
}

impl Contents {
    /// What brings a Secret from what was last written to what is wanted now. Where the templates failed, what they wrote
    /// before stays as it is.
    pub fn of(wish: Wish<'_>, before: Option<&Rendered>, extras: &Extras, creation: CreationPolicy) -> Self {
        let nothing = Rendered::default();
        let before = before.unwrap_or(&nothing);
        let previous = wish.previous.and_then(|(key, code)| Some((key.to_owned(), code?)));
        let (rendition, fault) = match wish.rendition {
            Ok(rendition) => (rendition, None),
            Err(fault) => (Rendition::default(), Some(fault.to_string())),
        };
        let is_faulty = fault.is_some();
        let mut data: BTreeMap<String, SecretString> = rendition.data;
        data.extend(previous.map(|(key, code)| (key, SecretString::from(code.expose()))));
        let present = |map: &BTreeMap<String, String>| -> Vec<(String, Option<String>)> {
            map.iter()
                .map(|(key, value)| (key.clone(), Some(value.clone())))
                .collect()
        };
        let values = data
            .iter()
            .map(|(key, value)| (key.clone(), Some(value.expose_secret().as_bytes())));
        let content = content(values, &present(&rendition.labels), &present(&rendition.annotations));
        let previous_key = wish.previous.map(|(key, _)| key);
        let stays = |key: &&String| is_faulty && Some(key.as_str()) != previous_key;
        let names = |new: Vec<&String>, old: &[String]| -> Vec<String> {
            let mut names: Vec<String> = new.into_iter().chain(old.iter().filter(stays)).cloned().collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        let rendered = wish.shape.map(|shape| Rendered {
            shape,
            content,
            data: names(data.keys().collect(), &before.data),
            labels: names(rendition.labels.keys().collect(), &before.labels),
            annotations: names(rendition.annotations.keys().collect(), &before.annotations),
            fault,
        });
        let kept = rendered.as_ref().unwrap_or(&nothing);
        let gone = |old: &[String], kept: &[String]| -> Vec<String> {
            let is_gone = |key: &&String| !kept.contains(key) && *key != wish.key;
            old.iter().filter(is_gone).cloned().collect()
        };
        let mut labels = change(&gone(&before.labels, &kept.labels), rendition.labels);
        if creation == CreationPolicy::Adopt {
            labels.insert(MANAGED_BY.to_owned(), Some(MANAGER.to_owned()));
        }
        Self {
            data: change(&gone(&before.data, &kept.data), data),
            labels,
            annotations: change(&gone(&before.annotations, &kept.annotations), rendition.annotations),
            owners: extras.owners.clone(),
            rendered,
        }
    }

    pub(super) fn data(&self) -> Map<String, Value> {
        let entries = self.data.iter().map(|(key, value)| {
            let value = value
                .as_ref()
                .map(|text| ByteString(text.expose_secret().as_bytes().to_vec()));
            (key.clone(), json!(value))
        });
        entries.collect()
    }

    pub(super) fn labels(&self) -> Map<String, Value> {
        self.labels
            .iter()
            .map(|(key, value)| (key.clone(), json!(value)))
            .collect()
    }

    pub(super) fn annotations(&self) -> Map<String, Value> {
        let entries = self.annotations.iter();
        entries.map(|(key, value)| (key.clone(), json!(value))).collect()
    }

    pub(super) fn owners(&self) -> Option<Value> {
        let owners: Vec<OwnerReference> = self.owners.as_ref()?.iter().map(OwnerReference::from).collect();
        Some(json!(owners))
    }
}

fn change<T>(gone: &[String], new: BTreeMap<String, T>) -> BTreeMap<String, Option<T>> {
    let gone = gone.iter().map(|key| (key.clone(), None));
    gone.chain(new.into_iter().map(|(key, value)| (key, Some(value))))
        .collect()
}

#[cfg(test)]
mod tests;
