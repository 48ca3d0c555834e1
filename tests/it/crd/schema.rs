//! As much of a structural schema as the CRD uses, checked as an API server checks it.

use kube::core::cel::Validator;
use serde_json::{Map, Value, json};

/// Every way in which `value` breaks `schema`, CEL rules aside.
///
/// # Panics
/// When the schema is not structural or holds a keyword that this does not know.
pub fn refusals(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, value, path, &mut found);
    found
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let kind = schema["type"]
        .as_str()
        .unwrap_or_else(|| panic!("{path} has no single type: not structural"));
    let is_kind = match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64(),
        other => panic!("{path}: unknown type {other}"),
    };
    if !is_kind {
        found.push(format!("{path} is no {kind}"));
        return;
    }
    for (keyword, rule) in schema.as_object().unwrap() {
        let is_kept = match keyword.as_str() {
            "type" | "description" | "title" | "format" | "x-kubernetes-validations" | "x-kubernetes-list-type" => true,
            "x-kubernetes-list-map-keys" => !has_twins(value, rule),
            "nullable" => panic!("{path}: a stored null would be present for CEL and absent for the operator"),
            "properties" => {
                for (name, schema) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        check(schema, value, &format!("{path}.{name}"), found);
                    }
                }
                true
            }
            "additionalProperties" => {
                for (name, value) in value.as_object().unwrap() {
                    check(rule, value, &format!("{path}.{name}"), found);
                }
                true
            }
            "maxProperties" => value.as_object().unwrap().len() as u64 <= rule.as_u64().unwrap(),
            "required" => rule
                .as_array()
                .unwrap()
                .iter()
                .all(|name| value.get(name.as_str().unwrap()).is_some()),
            "items" => {
                for item in value.as_array().unwrap() {
                    check(rule, item, &format!("{path}[]"), found);
                }
                true
            }
            "maxItems" => value.as_array().unwrap().len() as u64 <= rule.as_u64().unwrap(),
            "minLength" => characters(value) >= rule.as_u64().unwrap(),
            "maxLength" => characters(value) <= rule.as_u64().unwrap(),
            "minimum" => value.as_f64().unwrap() >= rule.as_f64().unwrap(),
            "maximum" => value.as_f64().unwrap() <= rule.as_f64().unwrap(),
            "enum" => rule.as_array().unwrap().contains(value),
            "pattern" => is_match(rule.as_str().unwrap(), value),
            other => panic!("{path}: unknown keyword {other}"),
        };
        if !is_kept {
            found.push(format!("{path} breaks {keyword}"));
        }
    }
}

/// Whether two items of a list have the same values under all of `keys`.
fn has_twins(items: &Value, keys: &Value) -> bool {
    let key_of = |item: &Value| -> Vec<Value> {
        let keys = keys.as_array().unwrap().iter();
        keys.map(|key| item[key.as_str().unwrap()].clone()).collect()
    };
    let all: Vec<Vec<Value>> = items.as_array().unwrap().iter().map(key_of).collect();
    (1..all.len()).any(|at| all[..at].contains(&all[at]))
}

fn characters(value: &Value) -> u64 {
    value.as_str().unwrap().chars().count() as u64
}

/// CEL's `matches` is the regular expression engine at hand; like the API server's it finds a match anywhere.
fn is_match(pattern: &str, value: &Value) -> bool {
    let rule = json!({"type": "string", "x-kubernetes-validations": [{"rule": format!("self.matches(r'{pattern}')")}]});
    Validator::new().validate(&rule, value, None).is_ok()
}

/// Calls `visit` with the path and schema of each node, the root first.
pub fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Map<String, Value>)) {
    let keywords = schema.as_object().unwrap();
    visit(path, keywords);
    for (name, schema) in keywords
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        walk(schema, &format!("{path}.{name}"), visit);
    }
    for entries in ["items", "additionalProperties"] {
        if let Some(entries) = keywords.get(entries) {
            walk(entries, &format!("{path}[]"), visit);
        }
    }
}
