//! What stands on resources and Secrets, and what of the cloud's secrets can be read.

use appcode_operator::ids::{AppId, Fingerprint};
use cloud_simulator::Cause;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::support::Stage;
use crate::support::api_server::{EVENTS, Object, ROTATIONS, SECRETS};
use crate::support::stage::code_of;

const INTENT: &str = "appcode.dev/intent";
pub(super) const RESOURCE: &str = "appcode.dev/resource";
const NUMBER: &str = "appcode.dev/rotation-number";

/// The Secret and the key that hold a resource's code now: those that spec names once its rotations go on there, though
/// status does not say so yet. What it had before is left as it is.
pub(super) fn holder(stage: &Stage, rotation: &Value) -> (String, String) {
    let (meta, target) = (&rotation["metadata"], &rotation["spec"]["target"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (namespace, own) = (text(&meta["namespace"]), text(&meta["name"]));
    let name = target["name"].as_str().unwrap_or(&own);
    let secret = stage.api.object(SECRETS, &namespace, name).unwrap_or_default();
    let annotations = &secret["metadata"]["annotations"];
    let written = annotations[NUMBER].as_str().and_then(|number| number.parse().ok());
    let begun = intent_of(&secret).and_then(|intent| intent["number"].as_i64());
    let is_ahead = written.max(begun) > rotation["status"]["rotationNumber"].as_i64();
    if is_ahead && annotations[RESOURCE] == format!("{namespace}/{own}") {
        return (name.to_owned(), target["key"].as_str().unwrap_or("appCode").to_owned());
    }
    place(rotation)
}

/// Namespace and name of every Secret that a resource names now, in spec or status.
pub(super) fn named(stage: &Stage) -> Vec<(String, String)> {
    stage
        .api
        .map_objects(ROTATIONS, named_by)
        .into_iter()
        .flatten()
        .collect()
}

/// The same of one resource.
pub(super) fn named_by(rotation: &Value) -> Vec<(String, String)> {
    let meta = &rotation["metadata"];
    let wanted = rotation["spec"]["target"]["name"].as_str().or(meta["name"].as_str());
    let former = rotation["status"]["target"]["name"].as_str();
    let namespace = meta["namespace"].as_str().unwrap_or_default();
    let place = |name: &str| (namespace.to_owned(), name.to_owned());
    wanted.into_iter().chain(former).map(place).collect()
}

/// Listed codes that the operator did not make.
pub(super) fn strangers(stage: &Stage) -> Vec<String> {
    let live = stage.live();
    stage.cloud.with(|cloud| {
        let effects = cloud.ledger().effects.iter();
        let made = effects.filter(|effect| effect.cause == Cause::Admin && live.contains(&effect.code));
        made.map(|effect| effect.code.clone()).collect()
    })
}

/// The intent on a Secret, or in a patch of one.
pub(super) fn intent_of(secret: &Value) -> Option<Value> {
    let text = secret["metadata"]["annotations"][INTENT].as_str()?;
    serde_json::from_str(text).ok()
}

pub(super) fn rotation_id(intent: &Value) -> String {
    intent["rotationId"].as_str().unwrap_or_default().to_owned()
}

/// Rotation and number of an attempt.
pub(super) type Attempt = (String, u64);

/// The attempt that an intent marks.
pub(super) fn attempt_of(intent: &Value) -> Attempt {
    (rotation_id(intent), intent["attempt"].as_u64().unwrap_or_default())
}

pub(super) fn is_open(intent: &Value) -> bool {
    intent["step"] == "Started"
}

pub(super) fn is_open_reset(intent: &Value) -> bool {
    is_open(intent) && intent["strategy"] == "Reset"
}

/// Whether the last rotation on a Secret was begun in the name of a resource that is gone by now.
pub fn is_begun_for_another(secret: &Value, rotation: &Value) -> bool {
    let uid = intent_of(secret).map_or(Value::Null, |intent| intent["uid"].clone());
    !uid.is_null() && uid != rotation["metadata"]["uid"]
}

/// The code that a Secret, or a patch of one, holds for a resource.
pub(super) fn code_at(secret: &Value, rotation: &Value) -> Option<String> {
    code_of(secret, &place(rotation).1)
}

/// Of a code of any app; of a code that the cloud never made, as if it were one of the stage's app.
pub(super) fn print_of(stage: &Stage, code: &str) -> Fingerprint {
    let app = stage.cloud.with(|cloud| {
        let mut effects = cloud.ledger().effects.iter();
        effects
            .find(|effect| effect.code == code)
            .map(|effect| effect.app.clone())
    });
    Fingerprint::of(&AppId::parse(app.unwrap_or_else(|| stage.app.clone())).unwrap(), code)
}

/// The Secret and the key where a resource's code stands: what status says, since a new target is reached in time.
pub(super) fn place(rotation: &Value) -> (String, String) {
    let named = |field: &str, default: &str| {
        let shown = rotation["status"]["target"][field].as_str();
        let wanted = rotation["spec"]["target"][field].as_str();
        shown.or(wanted).unwrap_or(default).to_owned()
    };
    let own = rotation["metadata"]["name"].as_str().unwrap_or_default();
    (named("name", own), named("key", "appCode"))
}

/// Every secret of the cloud that stands in `text`, raw or in base64.
pub fn leaks(stage: &Stage, text: &str) -> Vec<String> {
    let (codes, apps) = stage.cloud.with(|cloud| (cloud.ledger().secrets(), cloud.apps()));
    let mut secrets: Vec<(&str, String)> = codes.into_iter().map(|code| ("a code", code)).collect();
    // Every answer about an app tells these of it, and nobody has asked for them.
    secrets.extend(
        apps.into_iter()
            .flat_map(|app| [("a key of an app", app.app_key), ("a secret of an app", app.app_secret)]),
    );
    secrets.push(("the secret key", stage.user.sk.clone()));
    secrets.push(("the password", stage.user.password.clone()));
    let mut found = Vec::new();
    for (what, secret) in secrets {
        let encoded = json!(ByteString(secret.as_bytes().to_vec()));
        let encoded = encoded.as_str().unwrap().trim_end_matches('=').to_owned();
        if text.contains(&secret) || text.contains(&encoded) {
            found.push(what.to_owned());
        }
    }
    found
}

/// Every object of the API server but Secrets and specs, as one text.
pub fn readable(stage: &Stage) -> String {
    let mut text = String::new();
    for rotation in stage.api.objects(ROTATIONS) {
        let mut rotation = Object::unwrap_or_clone(rotation);
        rotation["spec"] = Value::Null;
        text.push_str(&rotation.to_string());
    }
    for event in stage.api.objects(EVENTS) {
        text.push_str(&event.to_string());
    }
    for secret in stage.api.objects(SECRETS) {
        let mut secret = Object::unwrap_or_clone(secret);
        secret["data"] = Value::Null;
        text.push_str(&secret.to_string());
    }
    text
}
