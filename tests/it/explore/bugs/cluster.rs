//! Mistakes in front of the API server.

use std::collections::BTreeMap;
use std::sync::Mutex;

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::super::people::NAMES;
use crate::support::Stage;
use crate::support::api_server::{Answer, Asked, DEPLOYMENTS, Object, ROTATIONS, SECRETS, STATEFUL_SETS};
use crate::support::gate::ProcessId;
use crate::support::script::Verb;

const INTENT: &str = "appcode.dev/intent";
const MARKER: &str = "rotation.appcode.dev/";

fn tamper(stage: &Stage, tamper: impl Fn(&Stage, &mut Asked) -> Option<Answer> + Send + Sync + 'static) {
    assert!(stage.tamper.set(Box::new(tamper)).is_ok());
}

/// Open intents are left out of what is written, and the operator is told otherwise.
pub fn drop_intents(stage: &Stage) {
    drop_marks(stage, "\"Started\"");
}

/// The same of what marks the deletion of a code.
pub fn drop_retirements(stage: &Stage) {
    drop_marks(stage, "\"Retiring\"");
}

fn drop_marks(stage: &Stage, step: &'static str) {
    tamper(stage, move |stage, asked| {
        let is_write = matches!(asked.verb, Verb::Create | Verb::Patch) && asked.resource == SECRETS;
        let annotations = asked.body_mut()["metadata"]["annotations"]
            .as_object_mut()
            .filter(|_| is_write)?;
        let intent = annotations.remove(INTENT)?;
        if !intent.as_str()?.contains(step) {
            annotations.insert(INTENT.into(), intent);
            return None;
        }
        let (code, mut answer) = stage.handle(asked);
        Object::make_mut(&mut answer)["metadata"]["annotations"][INTENT] = intent;
        Some((code, answer))
    });
}

/// A rotation is not shown in status before its code is in the Secret, and the operator is told otherwise.
pub fn drop_mirrors(stage: &Stage) {
    tamper(stage, |stage, asked| {
        if asked.resource != ROTATIONS || asked.verb != Verb::PutStatus {
            return None;
        }
        let status = asked.body_mut()["status"].as_object_mut()?;
        let rotation = status.remove("rotation")?;
        if rotation["step"] != "Started" {
            status.insert("rotation".into(), rotation);
            return None;
        }
        let (code, mut answer) = stage.handle(asked);
        Object::make_mut(&mut answer)["status"]["rotation"] = rotation;
        Some((code, answer))
    });
}

/// A process that was started after another one does not know that one's marks on workloads.
pub fn forget_restarts(stage: &Stage) {
    tamper(stage, |stage, asked| {
        if ![DEPLOYMENTS, STATEFUL_SETS].contains(&asked.resource) || asked.by == 0 {
            return None;
        }
        let own = format!("-of-{}", asked.by);
        let marks = |object: &mut Value, change: &dyn Fn(&mut String)| {
            let marks = object["spec"]["template"]["metadata"]["annotations"].as_object_mut();
            for (_, mark) in marks.into_iter().flatten().filter(|(name, _)| name.starts_with(MARKER)) {
                if let Value::String(mark) = mark {
                    change(mark);
                }
            }
        };
        if asked.verb == Verb::Patch {
            marks(asked.body_mut(), &|mark| mark.push_str(&own));
        }
        let (code, mut answer) = stage.handle(asked);
        if code == 200 {
            marks(Object::make_mut(&mut answer), &|mark| {
                *mark = mark
                    .strip_suffix(&own)
                    .map_or_else(|| "of another".to_owned(), str::to_owned);
            });
        }
        Some((code, answer))
    });
}

/// Every patch of a Secret fits whatever is there.
pub fn unfence(stage: &Stage) {
    tamper(stage, |stage, asked| {
        if asked.resource == SECRETS && asked.verb == Verb::Patch {
            let present = stage.api.object(SECRETS, &asked.namespace, &asked.name)?;
            asked.body_mut()["metadata"]["resourceVersion"] = present["metadata"]["resourceVersion"].clone();
        }
        None
    });
}

pub fn create_with_code(stage: &Stage) {
    tamper(stage, |stage, asked| {
        if asked.resource == SECRETS && asked.verb == Verb::Create {
            let code = stage.live().first()?.clone();
            asked.body_mut()["data"] = json!({ "appCode": ByteString(code.into_bytes()) });
        }
        None
    });
}

/// A resource is read once in a pass, after the Secret; what is read of it later comes from there.
pub fn cache_resources(stage: &Stage) {
    type Kept = BTreeMap<ProcessId, (bool, BTreeMap<String, Object>)>;
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
