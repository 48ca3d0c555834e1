//! Which keys of labels and annotations a template may name.

use crate::api::GROUP;
use crate::secret::MANAGED_BY;
use crate::validate::is_object_name;

/// A key of a label as the API server takes it: a name, perhaps after a domain and a slash.
pub(super) fn is_qualified(key: &str) -> bool {
    let (domain, name) = match key.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, key),
    };
    domain.is_none_or(is_object_name) && !name.is_empty() && is_label_value(name)
}

/// A key of an annotation: the same, but capitals may stand in the domain too.
pub(super) fn is_annotation_key(key: &str) -> bool {
    is_qualified(&key.to_ascii_lowercase())
}

/// A value of a label: it may be empty.
pub(super) fn is_label_value(value: &str) -> bool {
    let is_edge = |b: &u8| b.is_ascii_alphanumeric();
    let bytes = value.as_bytes();
    value.len() <= 63
        && bytes.iter().all(|b| is_edge(b) || matches!(b, b'-' | b'_' | b'.'))
        && bytes.first().is_none_or(is_edge)
        && bytes.last().is_none_or(is_edge)
}

/// The domain of a key, in small letters.
fn domain(key: &str) -> Option<String> {
    key.split_once('/').map(|(domain, _)| domain.to_ascii_lowercase())
}

fn is_under(domain: &str, parent: &str) -> bool {
    domain
        .strip_suffix(parent)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether the operator itself keeps this label or annotation.
pub fn is_ours(key: &str) -> bool {
    key == MANAGED_BY || domain(key).is_some_and(|domain| is_under(&domain, GROUP))
}

/// Whether Kubernetes gives this label or annotation a meaning of its own. The labels that it recommends for everybody
/// are free.
pub fn is_reserved(key: &str) -> bool {
    let is_kubernetes = |domain: &str| is_under(domain, "kubernetes.io") || is_under(domain, "k8s.io");
    domain(key).is_some_and(|domain| domain != "app.kubernetes.io" && is_kubernetes(&domain))
}
