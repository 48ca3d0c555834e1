//! Mistakes in front of the API server.

use std::collections::BTreeMap;
use std::sync::Mutex;

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::super::people::NAMES;
use crate::support::Stage;
use crate::support::api_server::{Answer, Asked, ROTATIONS, SECRETS};
use crate::support::gate::ProcessId;
use crate::support::script::Verb;

const INTENT: &str = "appcode.dev/intent";

fn tamper(stage: &Stage, tamper: impl Fn(&Stage, &mut Asked) -> Option<Answer> + Send + Sync + 'static) {
    assert!(stage.tamper.set(Box::new(tamper)).is_ok());
}

/// Open intents are left out of what is written, and the operator is told otherwise.
pub fn drop_intents(stage: &Stage) {
    tamper(stage, |stage, asked| {
        let is_write = matches!(asked.verb, Verb::Create | Verb::Patch) && asked.resource == SECRETS;
        let annotations = asked.body["metadata"]["annotations"]
            .as_object_mut()
            .filter(|_| is_write)?;
        let intent = annotations.remove(INTENT)?;
        if !intent.as_str()?.contains("\"Started\"") {
            annotations.insert(INTENT.into(), intent);
            return None;
        }
        let (code, mut answer) = stage.handle(asked);
        answer["metadata"]["annotations"][INTENT] = intent;
        Some((code, answer))
    });
}

/// Every patch of a Secret fits whatever is there.
pub fn unfence(stage: &Stage) {
    tamper(stage, |stage, asked| {
        if asked.resource == SECRETS && asked.verb == Verb::Patch {
            let present = stage.api.object(SECRETS, &asked.namespace, &asked.name)?;
            asked.body["metadata"]["resourceVersion"] = present["metadata"]["resourceVersion"].clone();
        }
        None
    });
}

pub fn create_with_code(stage: &Stage) {
    tamper(stage, |stage, asked| {
        if asked.resource == SECRETS && asked.verb == Verb::Create {
            let code = stage.live().first()?.clone();
            asked.body["data"] = json!({ "appCode": ByteString(code.into_bytes()) });
        }
        None
    });
}

/// A resource is read once in a pass, after the Secret; what is read of it later comes from there.
pub fn cache_resources(stage: &Stage) {
    type Kept = BTreeMap<ProcessId, (bool, BTreeMap<String, Value>)>;
    let kept = Mutex::new(Kept::new());
    tamper(stage, move |stage, asked| {
        let is_look = |asked: &Asked| asked.resource == SECRETS && NAMES.contains(&asked.name.as_str());
        let mut kept = kept.lock().unwrap();
        let (is_begin, cache) = kept.entry(asked.by).or_default();
        let was_begin = std::mem::replace(is_begin, is_look(asked));
        if asked.resource != ROTATIONS || asked.verb != Verb::Get {
            return None;
        }
        match cache.get(&asked.name) {
            Some(object) if !was_begin => Some((200, object.clone())),
            _ => {
                let (code, object) = stage.handle(asked);
                cache.insert(asked.name.clone(), object.clone());
                Some((code, object))
            }
        }
    });
}

/// A code goes into the Secret only after the next status, and the operator is told otherwise.
pub fn publish_first(stage: &Stage) {
    let put_off: Mutex<Option<Asked>> = Mutex::default();
    tamper(stage, move |stage, asked| {
        let mut put_off = put_off.lock().unwrap();
        let is_code = asked.resource == SECRETS && asked.verb == Verb::Patch && asked.body.get("data").is_some();
        if is_code {
            *put_off = Some(asked.clone());
            return Some(stage.api.would_answer(asked, stage.time.truth()));
        }
        if asked.resource != ROTATIONS || asked.verb != Verb::PutStatus {
            return None;
        }
        let answer = stage.handle(asked);
        if let Some(late) = put_off.take() {
            stage.handle(&late);
        }
        Some(answer)
    });
}
