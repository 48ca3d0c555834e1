//! What the judge knows of a new code's way to its consumers and of the end of the code before.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::records::{code_at, holder, intent_of, print_of};
use crate::support::Stage;
use crate::support::api_server::{Asked, DAEMON_SETS, DEPLOYMENTS, Object, ROTATIONS, SECRETS, STATEFUL_SETS};
use crate::support::invariant::{Broken, Invariant};
use crate::support::script::Verb;
use crate::support::stage::NAMESPACE;
use crate::support::workloads::{is_rolled_out, plural, target};

const RESOURCE: &str = "appcode.dev/resource";
const FINGERPRINT: &str = "appcode.dev/fingerprint";
const ADOPTED: &str = "appcode.dev/adopted-fingerprint";
const MARKER: &str = "rotation.appcode.dev/";
/// Times on the Secret have no fractions.
const ROUNDING: SignedDuration = SignedDuration::from_secs(2);

/// Rotations beyond the writing of their codes.
#[derive(Default)]
pub struct Handovers {
    /// Rotations that were written down.
    begun: BTreeSet<String>,
    /// When each rotation was first noted as distributed, in true time.
    distributed: BTreeMap<String, Timestamp>,
    /// Codes whose deletion was marked: the Secret with the mark, and the rotation.
    retiring: BTreeMap<String, (String, String)>,
    /// Codes that were tried and worked.
    worked: BTreeSet<String>,
    /// Generations of workloads before what is asked now.
    generations: BTreeMap<String, i64>,
    /// Workloads, by uid, that were restarted, each with the rotation.
    restarted: BTreeSet<(String, String)>,
    /// Workloads, by uid, that were seen rolled out with a mark, each with that. Somebody else may restart one of them again
    /// before that is noted, with the mark left on it.
    rolled_out: BTreeSet<(String, String)>,
    /// Somebody has changed the grace period or the clocks, so that it cannot be told when it is over.
    pub is_grace_unknown: bool,
    /// Somebody has changed workloads, so that it cannot be told who has the new code.
    pub is_meddled: bool,
    /// Codes that were deleted while another resource held them.
    pub taken: Vec<String>,
}

impl Handovers {
    pub fn worked(&mut self, code: &str) {
        self.worked.insert(code.to_owned());
    }

    /// A request before it is handled. Returns what is wrong with it.
    pub fn hear(&mut self, stage: &Stage, asked: &Asked) -> Option<Broken> {
        let present = stage.api.object(asked.resource, &asked.namespace, &asked.name)?;
        if is_workload(asked.resource) {
            let uid = text(&present["metadata"]["uid"]);
            let generation = present["metadata"]["generation"].as_i64().unwrap_or_default();
            self.generations.insert(uid, generation);
            return None;
        }
        // One that was decided on something else is refused.
        let is_fitting = asked.body["metadata"]["resourceVersion"] == present["metadata"]["resourceVersion"];
        if asked.resource != SECRETS || asked.verb != Verb::Patch || !is_fitting {
            return None;
        }
        let (new, old) = (intent_of(&asked.body)?, intent_of(&present).unwrap_or_default());
        let rotation = rotation_of(stage, &present)?;
        let is_same = new["rotationId"] == old["rotationId"];
        let was = |steps: &[&str]| steps.contains(&old["step"].as_str().unwrap_or_default());
        let is_behind = old["number"].as_i64() < rotation["status"]["rotationNumber"].as_i64();
        if new["step"] == "Started" && !is_same && !is_behind && retires(&old) && old["app"] == new["app"] {
            return Some(
                Invariant::OneBeside
                    .broken("a rotation was begun while the code before the last one was still to be retired"),
            );
        }
        // It may have been noted on a Secret that the resource had before, or that somebody has set back or overwritten since.
        let is_last = old["number"].as_i64() <= new["number"].as_i64();
        let was_distributed = is_last && self.distributed.contains_key(&text(&new["rotationId"]));
        if new["step"] == "Retiring" && !was_distributed && !(is_same && was(&["Distributed", "Retiring"])) {
            return Some(Invariant::RolledOut.broken("a code was to be retired before its successor was distributed"));
        }
        if new["step"] == "Distributed" && !was(&["Distributed", "Retiring"]) {
            let code = code_at(&asked.body, &rotation).or_else(|| code_at(&present, &rotation));
            // What a person names is not what the rotation made.
            let answer = text(&asked.body["metadata"]["annotations"][ADOPTED]);
            let is_named = code
                .as_ref()
                .is_some_and(|code| print_of(stage, code).to_string() == answer);
            return self
                .undistributed(stage, &rotation, &new, code.as_deref())
                .filter(|_| !is_named);
        }
        None
    }

    /// Why the rotation of `intent` is not distributed, though it was noted so.
    fn undistributed(&self, stage: &Stage, rotation: &Value, intent: &Value, code: Option<&str>) -> Option<Broken> {
        let spec = &rotation["spec"];
        if !spec["verification"].is_null() && code.is_none_or(|code| !self.worked.contains(code)) {
            return Some(
                Invariant::TriedFirst.broken("a code counted as distributed that was not tried, or did not work"),
            );
        }
        let is_waited_for = spec["overlap"]["waitForRollout"] != false || intent["strategy"] == "Reset";
        if self.is_meddled || !is_waited_for {
            return None;
        }
        let marker = appcode_operator::workload::marker(rotation["metadata"]["name"].as_str()?);
        let is_behind = |wanted: &&Value| {
            let wanted = target(&format!("{}/{}", text(&wanted["kind"]), text(&wanted["name"])));
            let workload = stage.api.object(plural(wanted.kind), NAMESPACE, &wanted.name);
            workload.is_none_or(|it| {
                let mark = &it["spec"]["template"]["metadata"]["annotations"][&marker];
                let id = text(&intent["rotationId"]);
                let was_seen = self.rolled_out.contains(&(text(&it["metadata"]["uid"]), text(mark)));
                !text(mark).starts_with(&id) || !(was_seen || is_rolled_out(&it))
            })
        };
        let mut targets = spec["restartTargets"].as_array().into_iter().flatten();
        targets.any(|target| is_behind(&target)).then(|| {
            Invariant::RolledOut.broken("a code counted as distributed before every workload had rolled out with it")
        })
    }

    /// A process was shown a workload.
    pub fn shown(&mut self, workload: &Value) {
        let marks = workload["spec"]["template"]["metadata"]["annotations"].as_object();
        let marks = marks.filter(|_| is_rolled_out(workload)).into_iter().flatten();
        let marks = marks.filter(|(name, _)| name.starts_with(MARKER));
        let uid = text(&workload["metadata"]["uid"]);
        self.rolled_out.extend(marks.map(|(_, mark)| (uid.clone(), text(mark))));
    }

    /// A request that had its effect.
    pub fn done(&mut self, stage: &Stage, asked: &Asked) -> Option<Broken> {
        if is_workload(asked.resource) {
            return self.restarted(stage, asked);
        }
        let intent = intent_of(&asked.body).filter(|_| asked.resource == SECRETS)?;
        let id = text(&intent["rotationId"]);
        self.begun.insert(id.clone());
        if matches!(intent["step"].as_str(), Some("Distributed" | "Retiring")) {
            // What is long on its way was decided on before that.
            self.distributed.entry(id.clone()).or_insert(asked.sent_at);
        }
        if intent["step"] == "Retiring" {
            self.retiring.insert(text(&intent["base"]), (asked.name.clone(), id));
        }
        None
    }

    fn restarted(&mut self, stage: &Stage, asked: &Asked) -> Option<Broken> {
        let workload = stage.api.object(asked.resource, &asked.namespace, &asked.name)?;
        let uid = text(&workload["metadata"]["uid"]);
        let before = self.generations.get(&uid).copied()?;
        if asked.verb != Verb::Patch || workload["metadata"]["generation"].as_i64() == Some(before) {
            return None;
        }
        let marks = asked.body["spec"]["template"]["metadata"]["annotations"].as_object()?;
        let (marker, id) = marks.iter().find(|(name, _)| name.starts_with(MARKER))?;
        let of = |rotation: &Object| {
            let name = rotation["metadata"]["name"].as_str().unwrap_or_default();
            appcode_operator::workload::marker(name) == *marker
        };
        let rotation = stage.api.objects(ROTATIONS).into_iter().find(of)?;
        let secret = stage
            .api
            .object(SECRETS, &asked.namespace, &holder(stage, &rotation).0)?;
        let intent = intent_of(&secret)?;
        // A rotation that began between the last look and the restart restarts it once more.
        let is_present = intent["rotationId"] == *id || !self.begun.contains(&text(id));
        let id = if is_present {
            text(&intent["rotationId"])
        } else {
            text(id)
        };
        let code = code_at(&secret, &rotation);
        // Between the last look and the restart somebody may have put another code there.
        let is_own =
            |code: &String| secret["metadata"]["annotations"][FINGERPRINT] == print_of(stage, code).to_string();
        let is_tried = code.filter(is_own).is_none_or(|code| self.worked.contains(&code));
        // Where no code is replaced, nobody has one that works, and holding the restarts back would help nobody.
        let is_beside = intent["strategy"] == "Overlap" && !intent["base"].is_null();
        let is_held = is_beside && !rotation["spec"]["verification"].is_null();
        if is_present && is_held && !is_tried {
            return Some(
                Invariant::TriedFirst
                    .broken("a workload was restarted with a code that was not tried, or did not work"),
            );
        }
        let is_again = !self.restarted.insert((uid, id));
        (is_again && !self.is_meddled)
            .then(|| Invariant::RestartedOnce.broken(format!("{} was restarted twice for one rotation", asked.name)))
    }

    /// A code is about to be deleted. Returns what is wrong with that.
    pub fn deleted(&mut self, stage: &Stage, code: &str) -> Option<Broken> {
        let print = print_of(stage, code).to_string();
        let Some((name, id)) = self.retiring.get(&print).cloned() else {
            return Some(Invariant::OnlyOurs.broken("a code was deleted that no rotation had marked for that"));
        };
        let mut grace = SignedDuration::ZERO;
        for rotation in stage.api.objects(ROTATIONS) {
            let secret = stage
                .api
                .object(SECRETS, NAMESPACE, &holder(stage, &rotation).0)
                .unwrap_or_default();
            let intent = intent_of(&secret).unwrap_or_default();
            if intent["rotationId"] == id {
                let text = rotation["spec"]["overlap"]["gracePeriod"].as_str().unwrap_or("1h");
                grace = text.parse().unwrap();
            }
            let is_held =
                code_at(&secret, &rotation).as_deref() == Some(code) || (retires(&intent) && intent["base"] == print);
            // A Secret that this rotation was begun on, and that its resource has left since, is no other one's.
            if secret["metadata"]["name"] != name && intent["rotationId"] != id && is_held {
                self.taken.push(code.to_owned());
            }
        }
        let since = self.distributed.get(&id).copied()?;
        let is_early = stage.time.truth().duration_since(since) + ROUNDING < grace;
        let is_known = !self.is_grace_unknown && !stage.time.was_skewed();
        (is_early && is_known)
            .then(|| Invariant::GraceKept.broken("a code was retired before its grace period was over"))
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub fn is_workload(resource: &str) -> bool {
    [DEPLOYMENTS, STATEFUL_SETS, DAEMON_SETS].contains(&resource)
}

/// The resource that keeps a Secret.
fn rotation_of(stage: &Stage, secret: &Value) -> Option<Object> {
    let keeper = secret["metadata"]["annotations"][RESOURCE].as_str()?;
    let (namespace, name) = keeper.split_once('/')?;
    stage.api.object(ROTATIONS, namespace, name)
}

/// Whether the base of an intent has still to be retired.
fn retires(intent: &Value) -> bool {
    let is_pending = matches!(intent["step"].as_str(), Some("Persisted" | "Distributed" | "Retiring"));
    is_pending && intent["strategy"] == "Overlap" && !intent["base"].is_null()
}
