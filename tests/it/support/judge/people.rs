//! What people do in a run, as far as it excuses what the judge sees afterwards.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Judge;
use super::records::{RESOURCE, print_of};
use crate::support::Stage;
use crate::support::api_server::{ROTATIONS, SECRETS};

/// What people have done.
#[derive(Default)]
pub struct People {
    /// Secrets that a person has broken: until the operator writes a code again, a dead code there is not its fault.
    pub(super) broken: Vec<String>,
    /// Secrets whose codes may die without a word.
    pub(super) forsaken: BTreeSet<String>,
    /// Secrets whose codes nothing told of any more at some time: what a resource begins with anew may be an older one.
    pub(super) forgotten: BTreeSet<String>,
    /// Changes that are made again since somebody has taken the only record of them.
    pub(super) excused_changes: usize,
    /// Whether a stranger's code appeared between a reading and the end of a change that rests on it.
    pub(super) is_met_by_stranger: bool,
    /// When a stranger last added a code.
    pub(super) visited: Option<u64>,
    /// Codes that people have named.
    pub(super) named: BTreeSet<String>,
    /// What status told of Secrets that were deleted after a rotation which it did not tell of: fingerprints of the codes
    /// before, to which these may go back.
    pub(super) returns: BTreeSet<(String, String)>,
    /// Whether two operators may have begun rotations of one code for two resources.
    pub(super) are_rivals_allowed: bool,
    /// Rotations of which status did not tell when their Secret was deleted: resource and number.
    untold: BTreeSet<(String, i64)>,
    /// Whether one of them has met several new codes, so that nothing tells which of them was its.
    is_code_untold: bool,
}

impl People {
    pub(super) fn is_broken(&self, secret: &str) -> bool {
        self.broken.iter().any(|broken| broken == secret) || self.forsaken.contains(secret)
    }
}

impl Judge {
    /// A person is about to break a Secret or what it rests on.
    pub fn excuse(&self, secret: &str) {
        self.inner.lock().unwrap().people.broken.push(secret.to_owned());
    }

    /// A person has taken away what told of a call that may still land: whatever the operator writes may be dead later.
    pub fn excuse_for_good(&self, secret: &str) {
        self.inner.lock().unwrap().people.forsaken.insert(secret.to_owned());
    }

    /// A person has taken away all that told of the code in a Secret.
    pub fn forget(&self, secret: String) {
        self.inner.lock().unwrap().people.forgotten.insert(secret);
    }

    /// Whether a person has taken away all that told of the code in a Secret.
    pub fn is_forgotten(&self, secret: &str) -> bool {
        self.inner.lock().unwrap().people.forgotten.contains(secret)
    }

    /// A person has deleted a Secret with a rotation of which status does not tell: it may be made again with what that tells.
    pub fn allow_return(&self, secret: String, fingerprint: String) {
        let mut inner = self.inner.lock().unwrap();
        inner.people.returns.insert((secret, fingerprint));
    }

    /// Whether a Secret may go back to an older code.
    pub fn may_return(&self, secret: &str, fingerprint: &str) -> bool {
        let returns = &self.inner.lock().unwrap().people.returns;
        returns.contains(&(secret.to_owned(), fingerprint.to_owned()))
    }

    /// Whether a person has broken a Secret and the operator has written no code since.
    pub fn is_broken(&self, secret: &str) -> bool {
        self.inner.lock().unwrap().people.is_broken(secret)
    }

    /// The number of the rotation that an operator has written on a Secret.
    pub fn number_on(&self, secret: &Value) -> Option<i64> {
        self.true_intent(secret)?["number"].as_i64()
    }

    /// A person takes away what tells that a change was made, or is under way.
    pub fn excuse_change(&self) {
        self.inner.lock().unwrap().people.excused_changes += 1;
    }

    /// Changes that are made again since somebody has taken the only record of them.
    pub fn excused_changes(&self) -> usize {
        self.inner.lock().unwrap().people.excused_changes
    }

    /// Whether a rotation that an operator began is open on any Secret.
    pub fn is_anything_open(&self, stage: &Stage) -> bool {
        stage.api.objects(SECRETS).iter().any(|secret| self.has_open(secret))
    }

    /// Whether a rotation is open on a Secret whose resource is gone: nobody finishes it, and nothing tells its code from one
    /// that another resource's rotation makes.
    pub fn is_left_open(&self, stage: &Stage) -> bool {
        let living = stage.api.map_objects(ROTATIONS, |rotation| {
            let meta = &rotation["metadata"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            format!("{}/{}", text(&meta["namespace"]), text(&meta["name"]))
        });
        let is_orphan = |secret: &Value| {
            let resource = secret["metadata"]["annotations"][RESOURCE].as_str();
            resource.is_some_and(|resource| !living.iter().any(|living| living == resource))
        };
        let secrets = stage.api.objects(SECRETS);
        secrets.iter().any(|secret| is_orphan(secret) && self.has_open(secret))
    }

    /// A stranger has added a code: while a change is open nothing may tell it from what that one makes.
    pub fn note_stranger(&self, stage: &Stage) {
        // The Secret may have been restored from a time before, so that only status tells of it.
        let is_shown = |rotation: &Value| rotation["status"]["rotation"]["step"] == "Started";
        let is_open = self.is_anything_open(stage) || stage.api.map_objects(ROTATIONS, is_shown).contains(&true);
        let is_untold = self.is_anything_untold(stage);
        let mut inner = self.inner.lock().unwrap();
        inner.people.is_code_untold |= is_untold;
        inner.moment += 1;
        inner.people.visited = Some(inner.moment);
        inner.people.is_met_by_stranger |= is_open;
    }

    /// A person deletes a Secret with a rotation of which status does not tell: where several codes are new since its mark, and
    /// in no other Secret, nothing says any more which of them it has made.
    pub fn note_untold(&self, stage: &Stage, secret: &Value) {
        let Some(intent) = self.true_intent(secret) else {
            return;
        };
        let name = secret["metadata"]["name"].as_str().unwrap_or_default();
        let others = self.secrets().into_iter().filter(|other| other != name);
        let held: Vec<String> = others.filter_map(|other| stage.code_in(&other)).collect();
        let is_new = |code: &&String| {
            let print = json!(print_of(stage, code).to_string());
            let known = intent["known"].as_array();
            known.is_some_and(|known| !known.contains(&print)) && !held.contains(code)
        };
        let new = stage.live().iter().filter(is_new).count();
        let resource = secret["metadata"]["annotations"][RESOURCE].as_str().unwrap_or_default();
        let people = &mut self.inner.lock().unwrap().people;
        people.is_code_untold |= new > 1;
        let number = intent["number"].as_i64().unwrap_or_default();
        people.untold.insert((resource.to_owned(), number));
    }

    /// Whether status does not tell yet of a rotation whose Secret was deleted.
    fn is_anything_untold(&self, stage: &Stage) -> bool {
        let told = stage.api.map_objects(ROTATIONS, |rotation| {
            let meta = &rotation["metadata"];
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let name = format!("{}/{}", text(&meta["namespace"]), text(&meta["name"]));
            (name, rotation["status"]["rotationNumber"].as_i64().unwrap_or_default())
        });
        let untold = &self.inner.lock().unwrap().people.untold;
        let mut untold = untold.iter();
        untold.any(|(resource, number)| told.iter().any(|(name, last)| name == resource && last < number))
    }

    /// Whether a Secret was deleted and nothing else tells which of several new codes was its.
    pub fn is_code_untold(&self) -> bool {
        self.inner.lock().unwrap().people.is_code_untold
    }

    /// A person names a code for a resource, whoever made it.
    pub fn note_named(&self, code: String) {
        self.inner.lock().unwrap().people.named.insert(code);
    }

    /// Whether a person has named a code.
    pub fn is_named(&self, code: &str) -> bool {
        self.inner.lock().unwrap().people.named.contains(code)
    }

    /// Nothing keeps two operators from beginning rotations of one code for two resources.
    pub fn allow_rivals(&self) {
        self.inner.lock().unwrap().people.are_rivals_allowed = true;
    }

    /// Whether a stranger's code appeared between a reading and the end of a change that rests on it.
    pub fn is_met_by_stranger(&self) -> bool {
        self.inner.lock().unwrap().people.is_met_by_stranger
    }

    /// A person has changed a grace period: when it is over cannot be told from outside any more.
    pub fn excuse_grace(&self) {
        self.inner.lock().unwrap().handovers.is_grace_unknown = true;
    }

    /// A person has changed workloads: who has the new code cannot be told from outside any more.
    pub fn excuse_workloads(&self) {
        self.inner.lock().unwrap().handovers.is_meddled = true;
    }
}
