//! The bodies of the writes: a new Secret, and the patches of one that is there.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Map, Value, json};

use super::extras::{Contents, Owner, Rendered, wanted_owner};
use super::record::Record;
use super::{Asker, CREATED, MANAGED_BY};
use crate::api::{CreationPolicy, MANAGER, SecretType};
use crate::modelarts::AppCode;
use crate::template::Layout;

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
