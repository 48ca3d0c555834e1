//! What the derived schema lacks to be a good CRD.

use schemars::Schema;
use schemars::transform::{Transform, transform_subschemas};
use serde_json::{Map, Value};

/// Takes "or null" out of a schema: an optional field is absent or has a value.
///
/// The API server then drops an explicit null, as templates like to write it, instead of storing it. A stored null
/// would count as present in CEL rules and as absent in the operator. It also keeps a field's own description: of an
/// optional enum, only the description of its type would be left.
#[derive(Clone, Debug)]
pub(super) struct AbsentRatherThanNull;

impl Transform for AbsentRatherThanNull {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        if let Some(keywords) = schema.as_object_mut() {
            drop_null_type(keywords);
            hoist_from_any_of(keywords);
        }
    }
}

/// `type: [X, null]` becomes `type: X`.
fn drop_null_type(keywords: &mut Map<String, Value>) {
    let Some(Value::Array(types)) = keywords.get_mut("type") else {
        return;
    };
    types.retain(|name| name != "null");
    if let [only] = types.as_slice() {
        let only = only.clone();
        keywords.insert("type".into(), only);
    }
}

/// `anyOf: [X, null]` becomes X, below what stands beside it.
fn hoist_from_any_of(keywords: &mut Map<String, Value>) {
    let Some(Value::Array(choices)) = keywords.get("anyOf") else {
        return;
    };
    let is_null = |choice: &&Value| choice.get("type").is_some_and(|name| name == "null");
    if !choices.iter().any(|choice| is_null(&choice)) {
        return;
    }
    let mut rest = choices.iter().filter(|choice| !is_null(choice));
    if let (Some(Value::Object(only)), None) = (rest.next().cloned(), rest.next()) {
        keywords.remove("anyOf");
        for (keyword, value) in only {
            keywords.entry(keyword).or_insert(value);
        }
    }
}
