//! What must have come of a story, as narrowly as its content allows.

mod allowed;

use cloud_simulator::{Cause, Change, Effect, Operation};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use appcode_operator::api::ADOPT_FINGERPRINT;
use appcode_operator::ids::{AppId, Fingerprint};

use self::allowed::{has, has_several_operators, may_go_back, may_leave, may_stop, most_changes};
use super::people::{Deed, NAMES, secret_of};
use super::run::Run;
use super::story::Story;
use crate::support::Stage;
use crate::support::api_server::{Object, ROTATIONS};
use crate::support::invariant::Invariant::{
    AskedInNeed, BoundedCalls, ComesToRest, DressedAsSpec, FinalizerGoes, LeftToOthers, NeverOlder, NoCodeLost,
    NoEditLost, NothingAgain, NothingLeft, NothingTold, OneChangeForOneReason, OnlyOurs, Sound,
};
use crate::support::invariant::{Broken, Invariant};
use crate::support::judge::{is_begun_for_another, leaks, readable};
use crate::support::stage::{NAMESPACE, code_of};

/// Calls of the cloud that one process makes for one resource in an hour at most. Pauses are some seconds in the beginning and
/// grow by a quarter at least, which makes thirty for one cause, and there may be two.
const HOURLY: usize = 60;

/// Changes tried and writes made.
pub struct Level {
    changes: usize,
    writes: usize,
    time: Timestamp,
}

pub struct Verdict {
    wrong: Vec<Broken>,
    began: Timestamp,
    /// The story as it came about: only what has happened excuses anything.
    story: Story,
}

impl Verdict {
    /// After everything has happened; `began`: when it could begin to.
    pub fn begin(run: &Run<'_>, began: Timestamp) -> Self {
        Self {
            wrong: Vec::new(),
            began,
            story: run.story.as_it_went(&run.stage.script.hits()),
        }
    }

    fn must(&mut self, invariant: Invariant, holds: bool, how: impl FnOnce() -> String) {
        if !holds {
            self.wrong.push(invariant.broken(how()));
        }
    }

    /// No Secret went back to an older code.
    pub fn order(&mut self, run: &Run<'_>) {
        // A Secret that was set back is repaired under the old record.
        if !has(&self.story, |deed| {
            matches!(deed, Deed::RestoreSecret(_) | Deed::DeleteSecret(_))
        }) {
            let is_again = run.stage.judge.has_gone_back();
            self.must(NeverOlder, !is_again, || {
                "the outcome of a rotation was written after that of a later one".into()
            });
        }
        let ledger = run.stage.cloud.with(|cloud| cloud.ledger().clone());
        for name in run.stage.judge.secrets() {
            let written = run.stage.judge.written(&name);
            let rank = |code: &str| ledger.age_rank(&run.stage.app, code);
            let is_return = |code: &str| {
                let print = print_of(&run.stage, code).short();
                run.stage.judge.may_return(&name, &print)
            };
            let mut steps = written.iter().zip(written.iter().skip(1));
            let is_sorted = steps.all(|(before, after)| rank(before) <= rank(after) || is_return(after));
            let is_forgotten = run.stage.judge.is_forgotten(&name);
            let is_in_order = is_sorted || may_go_back(&self.story, &name) || is_forgotten;
            self.must(NeverOlder, is_in_order, || {
                format!("Secret {name} went back to an older code")
            });
        }
    }

    /// A resource that waits for a person gets its answer, if the story allows that it waits. Returns whether one did.
    pub fn answer_as_a_person(&mut self, run: &Run<'_>) -> bool {
        let mut is_answered = false;
        let mut names: Vec<_> = run.story.setting.names().collect();
        // What one cannot choose is no choice of another one.
        names.sort_by_key(|(_, name)| choices(&run.stage, name).map_or(usize::MAX, |choices| choices.len()));
        for (which, name) in names {
            let object = rotation(&run.stage, name).unwrap_or_default();
            let Some(reason) = stalled(&object) else { continue };
            let is_allowed = may_stop(&self.story, &run.stage, &reason);
            self.must(AskedInNeed, is_allowed, || format!("{name} stopped for {reason}"));
            if is_allowed && reason == "CapacityExhausted" {
                make_place(&run.stage, &self.story);
                is_answered = true;
            } else if is_allowed && reason != "Conflict" {
                run.stage.note(0, || format!("a person answers {reason} of {name}"));
                answer(&run.stage, &self.story, which);
                is_answered = true;
            } else if is_allowed {
                // What it has still to do it does once the other resource is done with the code.
                is_answered |= !object["status"]["rotation"].is_null();
            }
        }
        is_answered
    }

    pub fn end(&mut self, run: &Run<'_>) {
        for (_, name) in run.story.setting.names() {
            if let Some(object) = rotation(&run.stage, name) {
                let is_free = object["metadata"]["finalizers"].is_null();
                self.must(FinalizerGoes, is_free, || format!("a finalizer is left on {name}"));
                self.end_of(run, name, &object);
            } else {
                self.end_without(run, name);
            }
        }
        self.end_of_codes(run);
        let ledger = run.stage.cloud.with(|cloud| cloud.ledger().clone());
        let app = &run.stage.app;
        let changes = ledger.acts_applied(app, Cause::Reset) + ledger.acts_applied(app, Cause::Add);
        let hours = run.stage.time.truth().duration_since(self.began).as_hours();
        let most = most_changes(&self.story, hours) + run.stage.judge.excused_changes();
        self.must(OneChangeForOneReason, changes <= most, || {
            format!("{changes} changes where {most} can have reasons")
        });
        if !run.stage.judge.is_met_by_stranger() {
            let strangers: Vec<String> = strangers(&run.stage, &self.story);
            let is_taken = |code: &String| strangers.contains(code) && !run.stage.judge.is_named(code);
            let taken = run.stage.judge.rotated().iter().any(is_taken);
            self.must(OnlyOurs, !taken, || {
                "a stranger's code was taken for the outcome of a rotation".into()
            });
        }
        let times: Vec<Timestamp> = ledger.requests.iter().map(|entry| entry.time).collect();
        let most = HOURLY * run.story.setting.resources * run.started();
        let busiest = busiest_hour(&times);
        self.must(BoundedCalls, busiest <= most, || {
            format!("{busiest} calls of the cloud in an hour, and {most} are the most")
        });
        let found = leaks(&run.stage, &readable(&run.stage));
        self.must(NothingTold, found.is_empty(), || format!("{found:?} can be read"));
    }

    /// Only codes that the Secrets held before are ever deleted, and those that are left have a reason.
    fn end_of_codes(&mut self, run: &Run<'_>) {
        let (stage, story) = (&run.stage, &self.story.clone());
        let ledger = stage.cloud.with(|cloud| cloud.ledger().clone());
        let names = || (0..NAMES.len()).map(|which| secret_of(stage, which));
        let ever = ledger.codes_ever(&stage.app);
        let is_made = |code: &String| {
            let mut made = ledger.effects.iter().filter(|effect| effect.code == *code);
            made.any(|effect| matches!(effect.cause, Cause::Add | Cause::Reset) && effect.change == Change::Made)
        };
        let is_ours = |code: &String| {
            let secrets = stage.judge.secrets();
            let written = is_made(code) || secrets.iter().any(|name| stage.judge.written(name).contains(code));
            // A person may name any code.
            let is_adopted = NAMES.iter().any(|name| {
                let object = rotation(stage, name).unwrap_or_default();
                object["metadata"]["annotations"][ADOPT_FINGERPRINT] == print_of(stage, code).to_string()
            });
            // The first code of an app without codes is the one that it is taken over with, whoever made it.
            let mut first = ever.iter().take(story.setting.codes.max(1));
            written || is_adopted || first.any(|first| first == code)
        };
        let gone = |effect: &&Effect| effect.cause == Cause::Delete && effect.app == stage.app;
        let is_named = has(story, |deed| matches!(deed, Deed::Reseed(_) | Deed::SeedRetiring(_)));
        let mut gone = ledger.effects.iter().filter(gone);
        let is_strangers = gone.any(|effect| !is_named && !is_ours(&effect.code));
        self.must(OnlyOurs, !is_strangers, || {
            "a code was deleted that was never ours".into()
        });
        // Two operators do not see each other's marks in time.
        let is_alone = !has_several_operators(story);
        self.must(LeftToOthers, !is_alone || !stage.judge.has_taken(), || {
            "a code was deleted that another resource held".into()
        });
        let made = |effect: &&Effect| effect.cause == Cause::Add && effect.change == Change::Made;
        let made = ledger.effects.iter().filter(made).map(|effect| &effect.code);
        let live = stage.live();
        let is_held = |code: &String| names().any(|name| stage.code_in(&name).as_ref() == Some(code));
        let left = made.filter(|code| live.contains(code) && !is_held(code)).count();
        self.must(NothingLeft, left == 0 || may_leave(story), || {
            format!("{left} codes of ours are left over that nobody holds")
        });
    }

    fn end_of(&mut self, run: &Run<'_>, name: &str, object: &Value) {
        if let Some(reason) = stalled(object) {
            let is_allowed = reason == "Conflict" && may_stop(&self.story, &run.stage, &reason);
            self.must(AskedInNeed, is_allowed, || {
                format!("{name} is stopped for {reason} in the end")
            });
            return;
        }
        let status = &object["status"];
        let ready = condition(object, "Ready");
        self.must(ComesToRest, ready["status"] == "True", || {
            format!(
                "{name} has Ready={} {}: {}",
                ready["status"], ready["reason"], ready["message"]
            )
        });
        let place = |field: &str| status["target"][field].as_str().unwrap_or_default().to_owned();
        let code = run
            .stage
            .secret(&place("name"))
            .and_then(|secret| code_of(&secret, &place("key")));
        let live = run.stage.live();
        self.must(
            NoCodeLost,
            code.as_ref().is_some_and(|code| live.contains(code)),
            || format!("the Secret of {name} holds no live code in the end"),
        );
        self.dress(run, &place("name"), object);
        let shown = code.map(|code| print_of(&run.stage, &code).short());
        self.must(
            ComesToRest,
            status["current"]["fingerprint"].as_str() == shown.as_deref(),
            || format!("the status of {name} shows another code"),
        );
        self.must(NoEditLost, is_up_to_date(object), || {
            format!("a change of {name} was lost: {status}")
        });
        let is_closed = is_closed(&run.stage, &self.story, object);
        self.must(ComesToRest, is_closed, || format!("a rotation of {name} is still open"));
    }

    /// A Secret that outlives its resource holds a live code, unless it was deleted while its rotation was open. A code that
    /// two resources name is left to the other one, which rotates it.
    fn end_without(&mut self, run: &Run<'_>, name: &str) {
        let setting = &run.story.setting;
        let is_shared = setting.codes < setting.resources;
        let (stage, live) = (&run.stage, run.stage.live());
        for secret in stage.judge.secrets() {
            let object = stage.secret(&secret).unwrap_or_default();
            let is_its = object["metadata"]["annotations"]["appcode.dev/resource"] == format!("{NAMESPACE}/{name}");
            let code = code_of(&object, "appCode").filter(|_| is_its);
            let is_left = stage.judge.has_left(&secret);
            let is_excused = is_shared || is_left || stage.judge.has_open(&object) || stage.judge.is_broken(&secret);
            let is_dead = code.is_some_and(|code| !live.contains(&code));
            self.must(NoCodeLost, !is_dead || is_excused, || {
                format!("Secret {secret} of {name}, which is gone, holds a dead code")
            });
        }
    }

    /// What stands on the Secret besides the code is what spec says, and no more.
    fn dress(&mut self, run: &Run<'_>, name: &str, object: &Value) {
        let secret = run.stage.secret(name).unwrap_or_default();
        let target = &object["spec"]["target"];
        let code = code_of(&secret, "appCode").unwrap_or_default();
        let url = target["template"]["data"]["url"].as_str();
        let url = url.map(|url| url.replace("{{ appCode }}", &code));
        self.must(DressedAsSpec, code_of(&secret, "url") == url, || {
            format!("the template of {name} was not rendered: {url:?}")
        });
        self.must(DressedAsSpec, code_of(&secret, "before").is_none(), || {
            format!("Secret {name} holds a code before that works no more")
        });
        let team = &secret["metadata"]["labels"]["team"];
        self.must(DressedAsSpec, *team == target["template"]["labels"]["team"], || {
            format!("Secret {name} has the label team: {team}")
        });
        let mut owners = secret["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        let is_owned = owners.any(|owner| owner["uid"] == object["metadata"]["uid"]);
        self.must(
            DressedAsSpec,
            is_owned == (target["deletionPolicy"] == "Delete"),
            || {
                format!(
                    "Secret {name} goes with its resource: {is_owned}, its policy is {}",
                    target["deletionPolicy"]
                )
            },
        );
    }

    pub fn level(run: &Run<'_>) -> Level {
        let ledger = run.stage.cloud.with(|cloud| cloud.ledger().clone());
        Level {
            changes: [Operation::Reset, Operation::Add, Operation::Delete]
                .map(|operation| ledger.calls(operation))
                .iter()
                .sum(),
            writes: run.stage.api.writes(),
            time: run.stage.time.truth(),
        }
    }

    /// After the last fault there is silence.
    pub fn silence(&mut self, run: &Run<'_>, before: &Level) {
        let after = Self::level(run);
        let is_scheduled = run.story.setting.is_scheduled;
        let changes = after.changes - before.changes;
        // Silence is shorter than the time between two firings.
        let most = if is_scheduled { run.story.setting.resources } else { 0 };
        let most = if run.story.setting.grace.is_some() {
            2 * most
        } else {
            most
        };
        self.must(NothingAgain, changes <= most, || {
            format!("{changes} changes where {most} have a reason")
        });
        let writes = after.writes - before.writes;
        let hours = usize::try_from(after.time.duration_since(before.time).as_hours()).unwrap_or_default();
        // The time of the last check is written once in a check period.
        let most = (hours + 2) * run.story.setting.resources * run.story.setting.operators;
        self.must(ComesToRest, writes <= most || is_scheduled, || {
            format!("{writes} writes in {hours} quiet hours")
        });
    }

    pub fn sum_up(mut self, run: &Run<'_>, broken: &[Broken]) -> Vec<Broken> {
        self.wrong.extend_from_slice(broken);
        self.wrong.extend(run.stage.judge.seen_broken());
        let malformed = run.stage.api.violations();
        self.wrong.extend(malformed.into_iter().map(|how| Sound.broken(how)));
        self.wrong.sort();
        self.wrong.dedup();
        self.wrong
    }
}

/// The most of these times, which are in order, that lie within an hour.
fn busiest_hour(times: &[Timestamp]) -> usize {
    let mut from = 0;
    let mut most = 0;
    for (at, time) in times.iter().enumerate() {
        while time.duration_since(times[from]) > SignedDuration::from_hours(1) {
            from += 1;
        }
        most = most.max(at + 1 - from);
    }
    most
}

fn print_of(stage: &Stage, code: &str) -> Fingerprint {
    Fingerprint::of(&AppId::parse(stage.app.clone()).unwrap(), code)
}

fn rotation(stage: &Stage, name: &str) -> Option<Object> {
    stage.api.object(ROTATIONS, NAMESPACE, name)
}

fn condition(object: &Value, kind: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array();
    let mut found = conditions
        .into_iter()
        .flatten()
        .filter(|condition| condition["type"] == kind);
    found.next().cloned().unwrap_or_default()
}

fn stalled(object: &Value) -> Option<String> {
    let condition = condition(object, "Stalled");
    let reason = condition["reason"].as_str().unwrap_or_default().to_owned();
    (condition["status"] == "True").then_some(reason)
}

/// Whether what a person asked for last was seen and taken into account.
fn is_up_to_date(object: &Value) -> bool {
    let status = &object["status"];
    let trigger = &object["spec"]["rotationTrigger"];
    let request = &object["metadata"]["annotations"][appcode_operator::api::ROTATE_REQUESTED_AT];
    status["observedGeneration"] == object["metadata"]["generation"]
        && (trigger.is_null() || status["lastHandledTrigger"] == *trigger)
        && (request.is_null() || status["lastHandledRequest"] == *request)
}

/// Whether status shows no open rotation. One for which nobody asks any more is not repeated, and stays open until the next
/// one takes its place. So does one of a resource that begins anew, since its Secret is gone and its status was emptied.
fn is_closed(stage: &Stage, story: &Story, object: &Value) -> bool {
    let status = &object["status"];
    let secret = stage.secret(status["target"]["name"].as_str().unwrap_or_default());
    let is_of_former = secret.is_some_and(|secret| is_begun_for_another(&secret, object));
    let is_anew = stage
        .judge
        .is_forgotten(status["target"]["name"].as_str().unwrap_or_default());
    let is_left = is_anew || is_of_former || has(story, |deed| matches!(deed, Deed::Withdraw(_) | Deed::Reseed(_)));
    status["rotation"].is_null() || (status["rotation"]["step"] == "Started" && is_left)
}

/// Whether every resource is ready, or waits for a person.
pub fn is_at_rest(stage: &Stage, story: &Story) -> bool {
    let is_at_rest = |object: &Value| {
        let is_going = !object["metadata"]["deletionTimestamp"].is_null();
        !is_going && stalled(object).is_some()
            || (!is_going
                && condition(object, "Ready")["status"] == "True"
                && is_up_to_date(object)
                && is_closed(stage, story, object))
    };
    let all = stage.api.objects(ROTATIONS);
    // One that waits for the outcome of another one's rotation waits for the person who is asked about that.
    let is_asked = all.iter().any(|object| stalled(object).is_some());
    let is_waiting = |object: &Value| is_asked && condition(object, "Reconciling")["reason"] == "Waiting";
    all.iter().all(|object| is_at_rest(object) || is_waiting(object))
}

/// Codes that nobody of ours made and that were not there at first.
fn strangers(stage: &Stage, story: &Story) -> Vec<String> {
    let ledger = stage.cloud.with(|cloud| cloud.ledger().clone());
    let made = ledger.effects.iter().filter(|effect| {
        effect.cause == Cause::Admin && effect.change == cloud_simulator::Change::Made && effect.app == stage.app
    });
    made.skip(story.setting.codes)
        .map(|effect| effect.code.clone())
        .collect()
}

/// Somebody deletes a code that nobody holds: a stranger's, or else one that no resource can have been made for.
fn make_place(stage: &Stage, story: &Story) {
    let setting = &story.setting;
    let first = stage.cloud.with(|cloud| cloud.ledger().codes_ever(&stage.app));
    let seeds = &first[..setting.codes.min(setting.resources)];
    let held: Vec<_> = (0..NAMES.len())
        .filter_map(|which| stage.code_in(&secret_of(stage, which)))
        .collect();
    let strangers = strangers(stage, story);
    let mut free = stage.live();
    free.retain(|code| !held.contains(code) && !seeds.contains(code));
    free.sort_by_key(|code| !strangers.contains(code));
    if let Some(code) = free.first() {
        let now = stage.time.truth();
        stage.cloud.with(|cloud| cloud.remove_code(now, &stage.app, code));
    }
}

/// The fingerprints among which a person is to choose, if the message says so.
fn choices(stage: &Stage, name: &str) -> Option<Vec<String>> {
    let rotation = rotation(stage, name)?;
    let message = condition(&rotation, "Stalled")["message"].clone();
    let (_, choices) = message.as_str()?.split_once("FINGERPRINT is one of ")?;
    let choices = choices.split('.').next()?.split(", ");
    Some(choices.map(str::to_owned).collect())
}

/// The code that came in the place of the one that a resource's last rotation was begun for, as the console tells.
fn successor(stage: &Stage, which: usize) -> Option<String> {
    let secret = stage.secret(&secret_of(stage, which))?;
    let intent = secret["metadata"]["annotations"]["appcode.dev/intent"].as_str()?;
    let intent: Value = serde_json::from_str(intent).ok()?;
    let effects = stage.cloud.with(|cloud| cloud.ledger().effects.clone());
    let is_base = |effect: &&Effect| {
        effect.change == Change::Removed && intent["base"] == print_of(stage, &effect.code).to_string()
    };
    let act = effects.iter().find(is_base)?.act;
    let made = effects
        .iter()
        .find(|effect| effect.act == act && effect.change == Change::Made);
    made.map(|effect| effect.code.clone())
}

/// What a person does who reads the message: of the codes to choose from names the one that the cloud made for the resource
/// or, where that is not to be had, the youngest one that is not a stranger's, or adds one.
fn answer(stage: &Stage, story: &Story, which: usize) {
    let strangers = strangers(stage, story);
    let ours = stage.cloud.with(|cloud| cloud.ledger().live_codes(&stage.app));
    let is_claimed = |code: &String, other: usize| {
        let named =
            rotation(stage, NAMES[other]).map(|object| object["metadata"]["annotations"][ADOPT_FINGERPRINT].clone());
        other != which
            && (stage.code_in(&secret_of(stage, other)).as_ref() == Some(code)
                || named.is_some_and(|named| named == print_of(stage, code).to_string()))
    };
    let choices = choices(stage, NAMES[which]);
    let is_choice = |code: &String| {
        let short = print_of(stage, code).short();
        choices.as_ref().is_none_or(|choices| choices.contains(&short))
    };
    let free = |code: &&String| {
        is_choice(code) && !strangers.contains(code) && !(0..NAMES.len()).any(|other| is_claimed(code, other))
    };
    let made = successor(stage, which).filter(|code| ours.contains(code) && free(&code));
    let code = made.or_else(|| ours.iter().rfind(free).cloned()).unwrap_or_else(|| {
        let now = stage.time.truth();
        stage.cloud.with(|cloud| cloud.add_code(now, &stage.app, None)).unwrap()
    });
    let print = print_of(stage, &code).to_string();
    stage.annotate(NAMES[which], ADOPT_FINGERPRINT, &print);
    stage.judge.note_named(code);
    // A seed that is gone would be the next question.
    if has(story, |deed| matches!(deed, Deed::SeedRetiring(_) | Deed::Reseed(_))) {
        stage.edit_rotation(NAMES[which], |object| {
            object["spec"].as_object_mut().unwrap().remove("appCode");
        });
    }
}
