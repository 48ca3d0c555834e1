//! The judge of every run: looks at the Secrets and at the cloud's ledger after each call, and never asks the operator.

mod handover;
mod people;
mod records;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;

use cloud_simulator::Operation;
use serde_json::Value;
use tokio::task::{Id, try_id};

use self::handover::{Handovers, is_workload};
use self::people::People;
use self::records::{
    Attempt, RESOURCE, attempt_of, holder, intent_of, is_open, is_open_reset, named, named_by, print_of, rotation_id,
    strangers,
};
pub use self::records::{is_begun_for_another, leaks, readable};
use super::Stage;
use super::api_server::{Asked, Object, ROTATIONS, SECRETS};
use super::gate::ProcessId;
use super::invariant::{Broken, Invariant};
use super::script::Verb;
use super::stage::code_of;

const APP: &str = "appcode.dev/app";
const PREVIOUS: &str = "appcode.dev/previous-fingerprint";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// What must not be and was.
#[derive(Default)]
pub struct Judge {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    broken_invariants: Vec<Broken>,
    /// Codes that the operator wrote, by Secret, in order.
    written: Vec<(String, String)>,
    people: People,
    is_blind: bool,
    /// Attempts that were marked on a Secret.
    marks: BTreeSet<Attempt>,
    /// Those of them that people took away since: each may be marked once more.
    taken: BTreeSet<Attempt>,
    /// Attempts that were marked once more.
    marked_again: usize,
    /// The attempt that stood on the Secret which each process is about to write.
    standing: BTreeMap<ProcessId, Option<Attempt>>,
    /// Changes that were sent to the cloud.
    sent: usize,
    /// Codes that calls were sent to end, each with who sent it and when.
    condemned: Vec<(String, ProcessId, u64)>,
    /// When each process last read the app.
    read: BTreeMap<ProcessId, u64>,
    /// The codes that processes were shown which read the app last as it had been before.
    misled: BTreeMap<ProcessId, Vec<String>>,
    /// Goes on with whatever is sent, read or added; the order of those.
    moment: u64,
    /// Rotations whose code was written, each with its code.
    rotated: Vec<(String, String)>,
    /// The rotation that each write of a code named as the last one, by Secret.
    named_last: Vec<(String, String)>,
    /// Version of the API server and effects of the cloud that were looked at last.
    looked_at: Option<(u64, usize)>,
    /// Secrets that resources named when a pass, which is a task, read one of them, if that was the last that it asked for.
    just_named: HashMap<Option<Id>, Vec<(String, String)>>,
    handovers: Handovers,
    /// Rotations whose intents were first written by an operator.
    ours: BTreeSet<String>,
    /// Rotations whose intents somebody else has put on a Secret.
    forged: BTreeSet<String>,
    /// The most codes that the stage's app had at a time.
    most_live: usize,
    /// Codes in Secrets that another resource has replaced rightly, until the Secret gets another one.
    claimed: BTreeSet<(String, String)>,
    /// The Secret in which each resource's code last stood and was live.
    homes: BTreeMap<String, String>,
    /// Secrets that their resources have left for another one, in which the code lived on.
    left: BTreeSet<String>,
}

impl Inner {
    /// Whether a call to end this code was sent since this process last read the app: by another process, as without a Lease
    /// both may work on one resource, or for another resource before a reading that lagged. What a process says is as true
    /// as its reading.
    fn is_outrun(&self, process: ProcessId, code: Option<&String>, is_open: bool) -> bool {
        let read = self.read.get(&process);
        let shown = self.misled.get(&process).filter(|_| !is_open);
        let is_misled = shown.is_some_and(|shown| code.is_some_and(|code| shown.contains(code)));
        self.condemned.iter().any(|(condemned, by, at)| {
            code == Some(condemned) && (*by != process || is_misled) && read.is_some_and(|read| read < at)
        })
    }
}

impl Inner {
    /// A resource's code stands in this Secret and is live: nobody looks after the one that it had before.
    fn note_home(&mut self, rotation: &Value, secret: &str) {
        let resource = rotation["metadata"]["name"].to_string();
        let before = self.homes.insert(resource, secret.to_owned());
        self.left.extend(before);
        self.left.remove(secret);
    }
}

impl Judge {
    /// Whether a resource has left this Secret for another one, in which its code lived on.
    pub fn has_left(&self, secret: &str) -> bool {
        self.inner.lock().unwrap().left.contains(secret)
    }

    /// In words.
    pub fn violations(&self) -> Vec<String> {
        self.seen_broken().iter().map(ToString::to_string).collect()
    }

    pub fn seen_broken(&self) -> Vec<Broken> {
        self.inner.lock().unwrap().broken_invariants.clone()
    }

    /// Codes that the operator wrote into a Secret, in order.
    pub fn written(&self, secret: &str) -> Vec<String> {
        let inner = self.inner.lock().unwrap();
        let ours = inner.written.iter().filter(|(name, _)| name == secret);
        ours.map(|(_, code)| code.clone()).collect()
    }

    /// Codes that the operator wrote as the outcome of a rotation.
    pub fn rotated(&self) -> Vec<String> {
        let inner = self.inner.lock().unwrap();
        inner.rotated.iter().map(|(_, code)| code.clone()).collect()
    }

    /// Whether a Secret was written in the name of a rotation after that of a later one.
    pub fn has_gone_back(&self) -> bool {
        let inner = self.inner.lock().unwrap();
        let mut runs = inner.named_last.clone();
        runs.sort_by(|one, other| one.0.cmp(&other.0)); // stable: in the order written, for each Secret
        runs.dedup();
        let all = runs.len();
        runs.sort_unstable();
        runs.dedup();
        runs.len() < all
    }

    /// From now on does not compare codes with the cloud's: among thousands of resources a look at all of them after each
    /// call takes hours, and a cloud that is not the stage's has codes that the stage does not know.
    pub fn go_blind(&self) {
        self.inner.lock().unwrap().is_blind = true;
    }

    /// Names of the Secrets that the operator wrote codes into.
    pub fn secrets(&self) -> BTreeSet<String> {
        let inner = self.inner.lock().unwrap();
        inner.written.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Whether a code was deleted while another resource held it.
    pub fn has_taken(&self) -> bool {
        !self.inner.lock().unwrap().handovers.taken.is_empty()
    }

    /// The most codes that the stage's app had at a time.
    pub fn most_live(&self) -> usize {
        self.inner.lock().unwrap().most_live
    }

    /// A code was tried and worked.
    pub fn worked(&self, code: &str) {
        self.inner.lock().unwrap().handovers.worked(code);
    }

    /// A process was shown the app as it was before, with these codes.
    pub fn was_misled(&self, process: ProcessId, codes: Vec<String>) {
        self.inner.lock().unwrap().misled.insert(process, codes);
    }

    /// A process has read the app as it is now.
    pub fn has_read(&self, process: ProcessId) {
        let mut inner = self.inner.lock().unwrap();
        inner.misled.remove(&process);
        inner.moment += 1;
        let moment = inner.moment;
        inner.read.insert(process, moment);
    }

    /// A call is sent to the cloud: one that changes the app has a mark of its own. `code`: the one that it names.
    pub fn sent(&self, stage: &Stage, process: ProcessId, operation: Operation, code: Option<&str>) {
        if !matches!(operation, Operation::Reset | Operation::Add | Operation::Delete) {
            return;
        }
        // A code that is gone is deleted again where the Secret was made anew from what status knew: that changes nothing.
        let is_gone = |code: &str| !stage.live().iter().any(|live| live == code);
        let mut inner = self.inner.lock().unwrap();
        // Nor does what another operator does as well, which looks after the Secret that spec named before.
        let is_doomed = |code: &str| inner.condemned.iter().any(|it| it.0 == code && it.1 != process);
        let changes_nothing =
            operation == Operation::Delete && code.is_some_and(|code| is_gone(code) || is_doomed(code));
        inner.sent += usize::from(!changes_nothing);
        inner.moment += 1;
        let moment = inner.moment;
        inner
            .condemned
            .extend(code.map(|code| (code.to_owned(), process, moment)));
        let is_marked = inner.sent <= inner.marks.len() + inner.marked_again;
        let code = code.filter(|_| operation == Operation::Delete && !inner.is_blind);
        let wrong = code.and_then(|code| inner.handovers.deleted(stage, code));
        drop(inner);
        if !is_marked {
            self.accuse(Invariant::MarkedFirst.broken("a change was sent that no intent on a Secret stands for"));
        }
        if let Some(wrong) = wrong {
            self.accuse(wrong);
        }
    }

    /// An operator is about to write an intent: one that stands somewhere already, and that no operator wrote before, is
    /// somebody else's.
    fn note_origin(&self, stage: &Stage, asked: &Asked) {
        let Some(id) = intent_of(&asked.body).map(|intent| rotation_id(&intent)) else {
            return;
        };
        let mut inner = self.inner.lock().unwrap();
        if inner.ours.contains(&id) || inner.forged.contains(&id) {
            return;
        }
        let stands = |secret: &Object| intent_of(secret).is_some_and(|intent| rotation_id(&intent) == id);
        if stage.api.objects(SECRETS).iter().any(stands) {
            inner.forged.insert(id);
        } else {
            inner.ours.insert(id);
        }
    }

    /// The intent on a Secret, or in a patch of one, if an operator wrote it first. Another one excuses nothing.
    fn true_intent(&self, secret: &Value) -> Option<Value> {
        let inner = self.inner.lock().unwrap();
        intent_of(secret).filter(|intent| inner.ours.contains(&rotation_id(intent)))
    }

    /// Whether a rotation that an operator began is open on a Secret.
    pub fn has_open(&self, secret: &Value) -> bool {
        self.true_intent(secret).is_some_and(|intent| is_open(&intent))
    }

    /// Takes down the attempt that a write to a Secret marks.
    fn note_mark(&self, asked: &Asked) {
        let is_mark = |intent: &Value| is_open(intent) || intent["step"] == "Retiring";
        let Some(intent) = self.true_intent(&asked.body).filter(is_mark) else {
            return;
        };
        let attempt = attempt_of(&intent);
        let mut inner = self.inner.lock().unwrap();
        let read = inner.read.get(&asked.by).copied();
        if is_open(&intent) && inner.people.visited > read {
            inner.people.is_met_by_stranger = true;
        }
        // A Secret that is made again, and a write of something else, repeat what was marked before and mark nothing.
        let is_standing = inner.standing.get(&asked.by) == Some(&Some(attempt.clone()));
        let is_again = asked.verb == Verb::Patch && !is_standing && inner.taken.remove(&attempt);
        inner.marked_again += usize::from(is_again);
        inner.marks.insert(attempt);
    }

    /// A person is about to take away the marks on a Secret.
    pub fn note_taken(&self, secret: &Value) {
        let Some(id) = self.true_intent(secret).map(|intent| rotation_id(&intent)) else {
            return;
        };
        let mut inner = self.inner.lock().unwrap();
        let taken: Vec<Attempt> = inner.marks.iter().filter(|mark| mark.0 == id).cloned().collect();
        inner.taken.extend(taken);
    }

    fn accuse(&self, what: Broken) {
        let mut inner = self.inner.lock().unwrap();
        if !inner.broken_invariants.contains(&what) {
            inner.broken_invariants.push(what);
        }
    }

    /// A request before it is handled: what it carries and where it goes.
    pub fn hear(&self, stage: &Stage, asked: &Asked) {
        let is_blind = self.inner.lock().unwrap().is_blind;
        let before = self.inner.lock().unwrap().just_named.remove(&try_id());
        if !asked.verb.is_write() {
            return;
        }
        let mut inner = self.inner.lock().unwrap();
        let is_broken = !inner.people.broken.is_empty();
        let wrong = inner.handovers.hear(stage, asked);
        drop(inner);
        // Which code a Secret holds that somebody has just changed no operator can know.
        let is_excused = |wrong: &Broken| is_broken && wrong.invariant == Invariant::TriedFirst;
        if let Some(wrong) = wrong.filter(|wrong| !is_blind && !is_excused(wrong)) {
            self.accuse(wrong);
        }
        let mut body = Value::clone(&asked.body);
        if asked.resource == SECRETS {
            // The API server asks for one of two keys in a Secret of the other type; no code is in it.
            let is_free = |data: &Value| {
                let is_basic = body["type"] == "kubernetes.io/basic-auth";
                is_basic && data.get("username").is_some() && leaks(stage, &data.to_string()).is_empty()
            };
            if asked.verb == Verb::Create
                && (body.get("data").is_some_and(|data| !is_free(data)) || body.get("stringData").is_some())
            {
                self.accuse(Invariant::MadeEmpty.broken("a Secret was created with data in it"));
            }
            body["data"] = Value::Null;
            self.note_origin(stage, asked);
            let standing = stage.api.object(SECRETS, &asked.namespace, &asked.name);
            let standing = standing
                .as_deref()
                .and_then(intent_of)
                .map(|intent| attempt_of(&intent));
            self.inner.lock().unwrap().standing.insert(asked.by, standing);
            self.check_place(stage, asked, &before.unwrap_or_default());
        }
        if asked.resource == ROTATIONS {
            if body["spec"]["statusCode"] == "Plaintext" {
                body["status"]["appCode"] = Value::Null;
            }
            body["spec"] = Value::Null;
            let (observed, generation) = (&body["status"]["observedGeneration"], &body["metadata"]["generation"]);
            if observed.as_i64() > generation.as_i64() {
                self.accuse(Invariant::NoEditLost.broken("observedGeneration runs ahead"));
            }
        }
        for found in leaks(stage, &body.to_string()) {
            self.accuse(Invariant::NothingTold.broken(format!("{found} in a {:?} of {}", asked.verb, asked.resource)));
        }
    }

    /// Only the Secret that a living resource names is written, and only if it is ours.
    fn check_place(&self, stage: &Stage, asked: &Asked, just_named: &[(String, String)]) {
        let name = match asked.verb {
            Verb::Create => asked.body["metadata"]["name"].as_str().unwrap_or_default(),
            _ => &asked.name,
        };
        let place = (asked.namespace.clone(), name.to_owned());
        // A create cannot be fenced by another object: the instant between the last look and the create is left over.
        let is_named = just_named.contains(&place) || named(stage).contains(&place);
        if !is_named && asked.verb == Verb::Create {
            self.accuse(Invariant::OnlyItsSecret.broken(format!("Secret {name} was created and no resource names it")));
        }
        if let Some(secret) = stage.api.object(SECRETS, &asked.namespace, name) {
            let is_ours = secret["metadata"]["labels"][MANAGED_BY] == "appcode-operator";
            let may_take = stage.api.objects(ROTATIONS).iter().any(|rotation| {
                let target = &rotation["spec"]["target"];
                let named = target["name"].as_str().or(rotation["metadata"]["name"].as_str());
                let policy = &target["creationPolicy"];
                named == Some(name) && (policy == "Adopt" || policy == "Merge")
            });
            // What became of a call is written down where its intent stands, whatever spec has come to say since.
            let is_awaited = self.has_open(&secret);
            if !is_ours && !may_take && !is_awaited && asked.verb != Verb::Create {
                self.accuse(Invariant::OnlyItsSecret.broken(format!("foreign Secret {name} was written")));
            }
        }
    }

    /// What a request was answered with.
    pub fn shown(&self, stage: &Stage, asked: &Asked, answer: &Value) {
        let is_look = asked.resource == ROTATIONS && asked.verb == Verb::Get;
        let mut inner = self.inner.lock().unwrap();
        if is_look && !inner.is_blind {
            let named = named(stage).into_iter().chain(named_by(answer)).collect();
            inner.just_named.insert(try_id(), named);
        }
        if asked.verb == Verb::Get && is_workload(asked.resource) {
            inner.handovers.shown(answer);
        }
    }

    /// A request after it was handled.
    pub fn answered(&self, stage: &Stage, asked: &Asked, code: u16) {
        if code >= 300 {
            return;
        }
        if asked.resource == SECRETS {
            self.note_mark(asked);
        }
        let mut inner = self.inner.lock().unwrap();
        let is_broken = !inner.people.broken.is_empty();
        // Which code a Secret holds that somebody has just changed no operator can know.
        let is_excused = |wrong: &Broken| is_broken && wrong.invariant == Invariant::TriedFirst;
        let wrong = inner.handovers.done(stage, asked);
        let wrong = wrong.filter(|wrong| !inner.is_blind && !is_excused(wrong));
        drop(inner);
        if let Some(wrong) = wrong {
            self.accuse(wrong);
        }
        if asked.resource == SECRETS
            && asked.verb == Verb::Patch
            && let Some(data) = asked.body.get("data").and_then(Value::as_object)
        {
            // Where more is written than one key, the plain code stands where a resource says.
            let keys: Vec<String> = stage
                .api
                .map_objects(ROTATIONS, |rotation| {
                    let target = &rotation["spec"]["target"];
                    let name = target["name"].as_str().or(rotation["metadata"]["name"].as_str());
                    let key = target["key"].as_str().unwrap_or("appCode").to_owned();
                    (name == Some(asked.name.as_str())).then_some(key)
                })
                .into_iter()
                .flatten()
                .collect();
            let is_plain = |key: &&String| data.len() == 1 || keys.contains(key);
            let written = data.keys().filter(is_plain).filter_map(|key| code_of(&asked.body, key));
            let mut inner = self.inner.lock().unwrap();
            let intent = intent_of(&asked.body).filter(|intent| !is_open(intent));
            let id = intent.as_ref().and_then(|intent| intent["rotationId"].as_str());
            inner
                .named_last
                .extend(id.map(|id| (asked.name.clone(), id.to_owned())));
            if let Some((id, code)) = id.zip(written.clone().next())
                && inner.rotated.iter().all(|(other, _)| other != id)
            {
                inner.rotated.push((id.to_owned(), code));
            }
            let written: Vec<String> = written.collect();
            // Where a reset has had no effect yet, what has appeared is somebody else's.
            let reset = intent_of(&asked.body).filter(|it| it["call"] == "Reset" && it["step"] == "Persisted");
            let is_base = |code: &String| {
                let base = reset.as_ref().map(|intent| &intent["base"]);
                base.is_some_and(|base| *base == print_of(stage, code).to_string())
            };
            let is_taken = !inner.is_blind && stage.live().iter().any(is_base);
            let is_taken = is_taken && written.iter().any(|code| strangers(stage).contains(code));
            // A code that a person deletes while it is written is not the operator's fault.
            let live = stage.live();
            if inner.is_blind || written.iter().any(|code| live.contains(code)) {
                inner.people.broken.retain(|name| *name != asked.name);
            }
            if !written.is_empty() {
                inner.claimed.retain(|(name, _)| *name != asked.name);
            }
            let written = written.into_iter().map(|code| (asked.name.clone(), code));
            inner.written.extend(written);
            drop(inner);
            if is_taken {
                let how = "a stranger's code was taken for the outcome of a reset whose old code was still listed";
                self.accuse(Invariant::OnlyOurs.broken(how));
            }
        }
        if asked.resource == ROTATIONS && asked.verb == Verb::PutStatus {
            let conditions = asked.body["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            let is_ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
            let name = asked.body["status"]["target"]["name"].as_str().unwrap_or_default();
            let key = asked.body["status"]["target"]["key"].as_str().unwrap_or_default();
            let secret = stage.api.object(SECRETS, &asked.namespace, name);
            let is_open = secret.as_ref().is_some_and(|secret| self.has_open(secret));
            let code = secret.and_then(|secret| code_of(&secret, key));
            let app = asked.body["status"]["app"]["appId"].as_str().unwrap_or_default();
            let live = stage.cloud.with(|cloud| cloud.live_codes(app));
            let inner = self.inner.lock().unwrap();
            let is_excused =
                inner.is_blind || inner.people.is_broken(name) || inner.is_outrun(asked.by, code.as_ref(), is_open);
            drop(inner);
            if is_ready && !is_excused && code.is_none_or(|code| !live.contains(&code)) {
                self.accuse(
                    Invariant::NoCodeLost.broken("Ready=True was written although the Secret holds no live code"),
                );
            }
        }
    }

    /// Whether another resource has replaced a code rightly: of several that name one code the oldest acts whose credentials
    /// are taken, if late, and the code of the others dies with it.
    fn is_claimed(&self, stage: &Stage, rotation: &Value, code: &str) -> bool {
        let text_of = |object: &Value, field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let age = |rotation: &Value| (text_of(rotation, "creationTimestamp"), text_of(rotation, "uid"));
        let are_rivals_allowed = self.inner.lock().unwrap().people.are_rivals_allowed;
        let mut conditions = rotation["status"]["conditions"].as_array().into_iter().flatten();
        let is_refused = conditions.any(|it| it["type"] == "Authorized" && it["status"] == "False");
        let print = print_of(stage, code).to_string();
        let has_replaced = |secret: &Value| {
            let intent = self.true_intent(secret).unwrap_or_default();
            secret["metadata"]["annotations"][PREVIOUS] == print || intent["base"] == print
        };
        let others = stage.api.objects(ROTATIONS);
        let is_rival = |other: &Object| {
            let namespace = other["metadata"]["namespace"].as_str().unwrap_or_default();
            let secret = stage
                .api
                .object(SECRETS, namespace, &holder(stage, other).0)
                .unwrap_or_default();
            let is_of_former = is_begun_for_another(&secret, other);
            let may_replace = is_of_former || is_refused || are_rivals_allowed || age(other) < age(rotation);
            other["metadata"]["name"] != rotation["metadata"]["name"] && has_replaced(&secret) && may_replace
        };
        // One that went before its rotation was marked is no rival to another operator that looks then.
        let is_of_gone = |secret: &Object| {
            let resource = &secret["metadata"]["annotations"][RESOURCE];
            let name = |it: &Value| format!("{}/{}", text_of(it, "namespace"), text_of(it, "name"));
            are_rivals_allowed && !others.iter().any(|it| *resource == name(it)) && has_replaced(secret)
        };
        others.iter().any(is_rival) || stage.api.objects(SECRETS).iter().any(is_of_gone)
    }

    /// Whether the last rotation on another Secret of the same resource resets the code in this one: without a Lease one operator
    /// may rotate on the Secret that spec named before while another one moves the code to the one that it names now. Its
    /// successor has to be there by the end.
    fn is_reset_elsewhere(&self, stage: &Stage, secret: &Value, code: &str) -> bool {
        let holder = |secret: &Value| secret["metadata"]["annotations"][RESOURCE].clone();
        let print = print_of(stage, code).to_string();
        let are_several = self.inner.lock().unwrap().read.len() > 1;
        are_several
            && stage.api.objects(SECRETS).iter().any(|other| {
                let is_its = other["metadata"]["name"] != secret["metadata"]["name"] && holder(other) == holder(secret);
                let intent = self.true_intent(other).filter(|_| is_its);
                intent.is_some_and(|intent| intent["call"] == "Reset" && intent["base"] == print)
            })
    }

    /// I1 at this instant: the code in the Secret of each resource is live, or an open reset stands on it. A code that
    /// another one is put beside lives on in any case.
    pub fn look(&self, stage: &Stage) {
        let effects = stage.cloud.with(|cloud| cloud.ledger().effects.len());
        let seen = (stage.api.version(), effects);
        let mut inner = self.inner.lock().unwrap();
        let is_known = inner.looked_at.replace(seen) == Some(seen) || inner.is_blind;
        if !is_known {
            inner.most_live = inner.most_live.max(stage.live().len());
        }
        drop(inner);
        if is_known {
            return;
        }
        for rotation in stage.api.objects(ROTATIONS) {
            let (name, key) = holder(stage, &rotation);
            let namespace = rotation["metadata"]["namespace"].as_str().unwrap_or_default();
            let Some(secret) = stage.api.object(SECRETS, namespace, &name) else {
                continue;
            };
            let meta = &secret["metadata"];
            let is_ours = meta["labels"][MANAGED_BY] == "appcode-operator";
            let Some(code) = code_of(&secret, &key).filter(|_| is_ours) else {
                continue;
            };
            let app = meta["annotations"][APP].as_str().unwrap_or_default();
            let app = app.rsplit('/').next().unwrap_or_default();
            let is_live = stage.cloud.with(|cloud| cloud.live_codes(app).contains(&code));
            if is_live {
                self.inner.lock().unwrap().note_home(&rotation, &name);
            }
            let is_broken = self.inner.lock().unwrap().people.is_broken(&name);
            // One that its resource has left may be named once more, by that one or by one that is made again; what to do then
            // no operator knows before it has looked.
            let is_left = self.has_left(&name);
            let is_open = self.true_intent(&secret).is_some_and(|intent| is_open_reset(&intent));
            if is_live || is_broken || is_left || is_open || self.is_reset_elsewhere(stage, &secret, &code) {
                continue;
            }
            // Only the next rotation of the other resource tells no more whose successor the code has.
            let dead = (name.clone(), code.clone());
            if self.is_claimed(stage, &rotation, &code) {
                self.inner.lock().unwrap().claimed.insert(dead);
            } else if !self.inner.lock().unwrap().claimed.contains(&dead) {
                self.accuse(
                    Invariant::NoCodeLost.broken(format!("Secret {name} held a dead code and no reset was open")),
                );
            }
        }
    }
}
