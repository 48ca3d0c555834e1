//! What people and other programs do in a story.

mod rights;
mod words;

use std::time::Duration;

use appcode_operator::api::ROTATE_REQUESTED_AT;
use appcode_operator::ids::{AppId, Fingerprint};
use jiff::SignedDuration;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};

use self::rights::Right;
pub use self::rights::give_rights;
use super::story::{Named, Setting};
use crate::support::Stage;
use crate::support::api_server::{ROTATIONS, SECRETS};
use crate::support::prober::INFERENCE_HOST;
use crate::support::script::Verb;
use crate::support::stage::{CREDENTIALS, NAME, NAMESPACE};
use crate::support::workloads::target;

/// The resources of a story.
pub const NAMES: [&str; 2] = [NAME, "basket"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    DeleteResource(usize),
    /// Makes it again, if it is gone.
    MakeResource(usize),
    /// Deletes it and makes it again at once.
    RemakeResource(usize),
    /// The same, with a spec that says no more than it must.
    RemakePlain(usize),
    DeleteSecret(usize),
    EditSecret(usize),
    /// Brings the Secret back as it was before its data was last changed.
    RestoreSecret(usize),
    Label(usize),
    Trigger(usize, u8),
    /// Takes the trigger away.
    Withdraw(usize),
    Request(usize, u8),
    Suspend(usize),
    Resume(usize),
    /// Names another code to start from.
    Reseed(usize),
    /// Names another Secret.
    Retarget(usize),
    /// Empties the status, as a restore of the resource does.
    WipeStatus(usize),
    /// Somebody else adds a code to the app.
    StrangerAdds,
    /// Somebody else deletes the code that stands in a Secret.
    StrangerDeletes(usize),
    /// Somebody who may write the Secret writes what only an operator should.
    Forge(usize, Forgery),
    TakeCredentials,
    GiveCredentials,
    /// Hours between the operators' clocks and the true time from now on.
    Jump(i64),
    /// Seconds go by.
    Pass(u64),
    /// The operator of this place is told to end, and another one starts.
    Restart(usize),
    /// Sets the grace period, in seconds.
    Grace(usize, u64),
    /// Sets the strategy: whether it is `Overlap`.
    Strategy(usize, bool),
    /// Names the code that another resource is about to retire, or has just retired.
    SeedRetiring(usize),
    PauseWorkload(usize),
    /// Takes the mark of the last restart away.
    RollBack(usize),
    DeleteWorkload(usize),
    /// Makes a workload again, if it is gone.
    MakeWorkload(usize),
    /// Edits what stands on the Secret besides the code.
    Dress(usize, Dress),
    /// What is read of the API server is what it was now, for so many seconds.
    Lag(u64),
    /// The operators lose a right for ten minutes.
    Revoke(Right),
    /// The watches tell nothing for so many seconds, and list anew then if they were cut.
    Blind {
        seconds: u64,
        is_cut: bool,
    },
    /// The watches tell once more what they told last.
    Repeat,
}

/// What spec says of the Secret besides the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dress {
    /// Nothing more.
    Plain,
    /// Another template.
    Template(u8),
    /// The code before, while it works.
    Previous,
    /// It stays when the resource goes.
    Retain,
    /// It goes with the resource.
    Delete,
    /// One that exists is taken over.
    Adopt,
}

impl Dress {
    fn edit(self, target: &mut Value) {
        let mut without = |fields: &[&str]| {
            for field in fields {
                target.as_object_mut().map(|target| target.remove(*field));
            }
        };
        match self {
            Self::Plain => without(&["template", "previousKey"]),
            Self::Template(number) => {
                target["template"] = json!({
                    "labels": { "team": format!("team-{number}") },
                    "data": { "url": format!("https://{number}.example.com/{{{{ appCode }}}}") },
                });
            }
            Self::Previous => target["previousKey"] = json!("before"),
            Self::Retain => without(&["creationPolicy", "deletionPolicy"]),
            Self::Delete => {
                without(&["creationPolicy"]);
                target["deletionPolicy"] = json!("Delete");
            }
            Self::Adopt => {
                without(&["deletionPolicy"]);
                target["creationPolicy"] = json!("Adopt");
            }
        }
    }
}

/// What is forged on a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// An open intent for another app.
    App,
    /// An open intent for the app of that id at another endpoint.
    Endpoint,
    /// A code that the cloud never listed, and its fingerprint.
    Code,
}

impl Deed {
    pub fn draw(random: &mut StdRng, setting: &Setting) -> Self {
        let which = random.random_range(0..setting.resources);
        let value = random.random_range(2..5);
        match random.random_range(0..34) {
            0 => Self::DeleteResource(which),
            1 => Self::MakeResource(which),
            2 => Self::RemakeResource(which),
            3 => Self::RemakePlain(which),
            4 => Self::DeleteSecret(which),
            5 => Self::EditSecret(which),
            6 => Self::RestoreSecret(which),
            7 => Self::Label(which),
            8..=10 => Self::Trigger(which, value),
            11 => Self::Withdraw(which),
            12 | 13 => Self::Request(which, value),
            14 => Self::Suspend(which),
            15 => Self::Resume(which),
            16 => Self::Reseed(which),
            17 => Self::Retarget(which),
            18 => Self::WipeStatus(which),
            19 => Self::StrangerAdds,
            20 => Self::StrangerDeletes(which),
            21 => Self::TakeCredentials,
            22 => Self::GiveCredentials,
            23 => Self::Jump(*[-24 * 365, -2, 1, 24 * 365].choose(random).unwrap()),
            24..=26 => Self::Pass(*[6, 60, 130, 900, 50 * 3600].choose(random).unwrap()),
            27 => Self::Forge(
                which,
                *[Forgery::App, Forgery::Endpoint, Forgery::Code].choose(random).unwrap(),
            ),
            28 => Self::Lag(*[5, 60].choose(random).unwrap()),
            29 => Self::Revoke(*Right::ALL.choose(random).unwrap()),
            30 => Self::Blind {
                seconds: *[0, 30, 600].choose(random).unwrap(),
                is_cut: random.random_ratio(1, 2),
            },
            31 => Self::Repeat,
            _ => Self::Restart(random.random_range(0..setting.operators)),
        }
    }

    /// Those that matter only where more is done with a code than to write it down.
    pub fn draw_beyond(random: &mut StdRng, setting: &Setting) -> Self {
        let which = random.random_range(0..setting.resources);
        let workload = random.random_range(0..WORKLOADS.len());
        match random.random_range(0..14) {
            0 | 1 => Self::Grace(which, *[0, 60, 3_600].choose(random).unwrap()),
            2 => Self::Strategy(which, random.random_ratio(1, 2)),
            3 => Self::SeedRetiring(which),
            4 => Self::PauseWorkload(workload),
            5 => Self::RollBack(workload),
            6 => Self::DeleteWorkload(workload),
            7 => Self::MakeWorkload(workload),
            8 | 9 => Self::DeleteSecret(which),
            10 => Self::DeleteResource(which),
            11 => Self::Trigger(which, random.random_range(5..8)),
            _ => Self::Pass(*[60, 600, 1_800].choose(random).unwrap()),
        }
    }

    pub fn draw_dress(random: &mut StdRng, setting: &Setting) -> Self {
        let all = [
            Dress::Plain,
            Dress::Template(2),
            Dress::Template(3),
            Dress::Previous,
            Dress::Retain,
            Dress::Delete,
            Dress::Adopt,
        ];
        Self::Dress(random.random_range(0..setting.resources), *all.choose(random).unwrap())
    }

    /// Does it. Restarts are the story-teller's.
    pub fn work(&self, stage: &Stage, setting: &Setting) {
        match *self {
            Self::DeleteResource(which) => {
                stage.api.delete(ROTATIONS, NAMESPACE, NAMES[which]);
            }
            Self::MakeResource(which) => make(stage, setting, which),
            Self::RemakeResource(which) => remake(stage, which, |spec, old| *spec = old.clone()),
            Self::RemakePlain(which) => remake(stage, which, |_, _| ()),
            Self::DeleteSecret(which) => delete_secret(stage, which),
            Self::EditSecret(which) => edit_secret(stage, which),
            Self::RestoreSecret(which) => restore_secret(stage, which),
            Self::Label(which) => {
                edit(stage, which, |object| {
                    object["metadata"]["labels"] = json!({ "team": "x" });
                });
            }
            Self::Trigger(which, value) => {
                edit(stage, which, |object| {
                    object["spec"]["rotationTrigger"] = json!(value.to_string());
                });
            }
            Self::Withdraw(which) => edit(stage, which, |object| {
                object["spec"].as_object_mut().unwrap().remove("rotationTrigger");
            }),
            Self::Request(which, value) => edit(stage, which, |object| {
                object["metadata"]["annotations"][ROTATE_REQUESTED_AT] = json!(value.to_string());
            }),
            Self::Suspend(which) => edit(stage, which, |object| object["spec"]["suspend"] = json!(true)),
            Self::Resume(which) => resume(stage, which),
            Self::Reseed(which) => reseed(stage, which),
            Self::Retarget(which) => edit(stage, which, |object| {
                object["spec"]["target"] = json!({ "name": format!("{}-moved", NAMES[which]) });
            }),
            Self::WipeStatus(which) => {
                excuse_former(stage, which);
                edit(stage, which, |object| {
                    object.as_object_mut().unwrap().remove("status");
                });
                note_forgotten(stage, which);
            }
            Self::StrangerAdds => {
                let now = stage.time.truth();
                stage.cloud.with(|cloud| cloud.add_code(now, &stage.app, None));
                stage.judge.note_stranger(stage);
            }
            Self::StrangerDeletes(which) => stranger_deletes(stage, which),
            Self::Forge(which, forgery) => forge(stage, which, forgery),
            Self::TakeCredentials => {
                stage.delete_secret(CREDENTIALS);
            }
            Self::GiveCredentials => give_credentials(stage),
            Self::Jump(hours) => stage.time.set_skew(SignedDuration::from_hours(hours)),
            Self::Pass(seconds) => {
                // A grace period counts from when a code was seen to be in place, which may be told only after this time.
                if stage.judge.is_anything_open(stage) {
                    stage.judge.excuse_grace();
                }
                stage.time.advance(Duration::from_secs(seconds));
            }
            Self::Restart(_) => {}
            Self::Grace(which, seconds) => set_grace(stage, which, seconds),
            Self::Strategy(which, is_overlap) => edit(stage, which, |object| {
                object["spec"]["strategy"] = json!(if is_overlap { "Overlap" } else { "Reset" });
            }),
            Self::SeedRetiring(which) => seed_retiring(stage, which),
            Self::PauseWorkload(at) => {
                stage.judge.excuse_workloads();
                stage.edit_workload(&target(WORKLOADS[at]), |object| object["spec"]["paused"] = json!(true));
            }
            Self::RollBack(at) => {
                stage.judge.excuse_workloads();
                stage.edit_workload(&target(WORKLOADS[at]), |object| {
                    object["spec"]["template"]["metadata"]["annotations"] = json!({});
                });
            }
            Self::DeleteWorkload(at) => {
                stage.judge.excuse_workloads();
                stage.delete_workload(&target(WORKLOADS[at]));
            }
            Self::MakeWorkload(at) => make_workload(stage, at),
            Self::Dress(which, dress) => edit(stage, which, |object| dress.edit(&mut object["spec"]["target"])),
            Self::Lag(seconds) => stage.api.lag(Duration::from_secs(seconds)),
            Self::Revoke(right) => right.take_away(stage),
            Self::Blind { seconds, is_cut } => {
                let (now, time) = (stage.time.truth(), Duration::from_secs(seconds));
                if is_cut {
                    stage.sight.cut(now, time);
                } else {
                    stage.sight.lag(now, time);
                }
            }
            Self::Repeat => stage.sight.repeat(),
        }
    }
}

/// Workloads that every resource restarts, if any.
pub const WORKLOADS: [&str; 2] = ["Deployment/web", "StatefulSet/db"];

pub fn make_workload(stage: &Stage, at: usize) {
    let target = target(WORKLOADS[at]);
    if stage.workload(&target).is_none() {
        stage.judge.excuse_workloads();
        stage.create_workload(&target);
    }
}

/// Sets what holds workloads back right again. Of those that were changed by hand nobody expects the new code any more.
pub fn mend_workloads(stage: &Stage, is_meddled: bool) {
    for (at, workload) in WORKLOADS.iter().enumerate() {
        stage.edit_workload(&target(workload), |object| {
            object["spec"].as_object_mut().unwrap().remove("paused");
        });
        if is_meddled {
            make_workload(stage, at);
        }
    }
    for name in NAMES.into_iter().filter(|_| is_meddled) {
        stage.edit_rotation(name, |object| {
            object["spec"].as_object_mut().unwrap().remove("restartTargets");
        });
    }
}

fn set_grace(stage: &Stage, which: usize, seconds: u64) {
    stage.judge.excuse_grace();
    edit(stage, which, |object| {
        object["spec"]["overlap"] = json!({ "gracePeriod": format!("{seconds}s") });
    });
}

/// Whoever waits for a day to pass has the code before deleted now.
pub fn end_grace(stage: &Stage, which: usize) {
    const LONG: u64 = 3_600;
    let object = stage.api.object(ROTATIONS, NAMESPACE, NAMES[which]).unwrap_or_default();
    let grace = object["spec"]["overlap"]["gracePeriod"].as_str().unwrap_or("0s");
    if grace.trim_end_matches('s').parse::<u64>().unwrap() > LONG {
        set_grace(stage, which, 0);
    }
}

/// Names the code that another resource replaced last.
fn seed_retiring(stage: &Stage, which: usize) {
    let ever = stage.cloud.with(|cloud| cloud.ledger().codes_ever(&stage.app));
    for other in (0..NAMES.len()).filter(|other| *other != which) {
        let secret = stage.secret(&secret_of(stage, other)).unwrap_or_default();
        let before = &secret["metadata"]["annotations"]["appcode.dev/previous-fingerprint"];
        let is_before = |code: &&String| {
            let print = Fingerprint::of(&AppId::parse(stage.app.clone()).unwrap(), code);
            *before == print.to_string()
        };
        if let Some(code) = ever.iter().find(is_before) {
            edit(stage, which, |object| {
                object["spec"].as_object_mut().unwrap().remove("appCodeFrom");
                object["spec"]["appCode"] = json!(code);
            });
        }
    }
}

/// Somebody is about to take the record off a Secret. What status does not show of it yet is known to nobody then, and
/// what it was for is done once more. Returns whether there is such a thing.
fn excuse_untold(stage: &Stage, which: usize, name: &str) -> bool {
    let secret = stage.secret(name).unwrap_or_default();
    let object = stage.api.object(ROTATIONS, NAMESPACE, NAMES[which]).unwrap_or_default();
    let number = stage.judge.number_on(&secret);
    let is_untold = number > object["status"]["rotationNumber"].as_i64();
    if is_untold {
        stage.judge.excuse_change();
    }
    is_untold
}

/// Somebody is about to take away what tells of the Secret that a resource had before: a call that was made there may still
/// land on the code of the one that spec names now.
fn excuse_former(stage: &Stage, which: usize) {
    let object = stage.api.object(ROTATIONS, NAMESPACE, NAMES[which]).unwrap_or_default();
    let former = object["status"]["target"]["name"].as_str().unwrap_or_default();
    let wanted = object["spec"]["target"]["name"].as_str().unwrap_or(NAMES[which]);
    let is_open = stage.judge.has_open(&stage.secret(former).unwrap_or_default());
    if former != wanted && is_open && stage.cloud.with(|cloud| cloud.is_late()) {
        stage.judge.excuse_for_good(wanted);
    }
}

/// Somebody has taken away one of the two that tell of a code: where the other one is gone as well the resource begins anew.
fn note_forgotten(stage: &Stage, which: usize) {
    let name = secret_of(stage, which);
    let object = stage.api.object(ROTATIONS, NAMESPACE, NAMES[which]).unwrap_or_default();
    let is_told = stage.secret(&name).is_some() || !object["status"]["current"].is_null();
    if !is_told && !stage.judge.written(&name).is_empty() {
        stage.judge.forget(name);
    }
}

/// The Secret that a resource names now.
pub fn secret_of(stage: &Stage, which: usize) -> String {
    let object = stage.api.object(ROTATIONS, NAMESPACE, NAMES[which]);
    let named = object.and_then(|object| object["spec"]["target"]["name"].as_str().map(str::to_owned));
    named.unwrap_or_else(|| NAMES[which].to_owned())
}

fn edit(stage: &Stage, which: usize, change: impl FnOnce(&mut Value)) {
    stage.edit_rotation(NAMES[which], change);
}

/// The first code of the app that a resource starts from.
fn first_code(stage: &Stage, which: usize) -> Option<String> {
    let codes = stage.cloud.with(|cloud| cloud.ledger().codes_ever(&stage.app));
    codes.get(which).or(codes.first()).cloned()
}

fn seed_secret(which: usize) -> String {
    format!("{}-seed", NAMES[which])
}

/// Makes a resource as the setting has it, if there is none.
pub fn make(stage: &Stage, setting: &Setting, which: usize) {
    if stage.api.object(ROTATIONS, NAMESPACE, NAMES[which]).is_some() {
        return;
    }
    let code = first_code(stage, which % setting.codes.max(1));
    stage.create_rotation_named(NAMES[which], |spec| {
        match setting.named {
            Named::No => {}
            Named::Inline => spec["appCode"] = json!(code),
            Named::InSecret => {
                let name = seed_secret(which);
                if stage.secret(&name).is_none() {
                    stage.create_secret(&name, &[("code", code.as_deref().unwrap_or_default())]);
                }
                spec["appCodeFrom"] = json!({ "secretKeyRef": { "name": name, "key": "code" } });
            }
        }
        if setting.is_immediate {
            spec["initialRotation"] = json!("Immediate");
        }
        if setting.is_scheduled {
            spec["schedule"] = json!({ "interval": "48h" });
        }
        if let Some(grace) = setting.grace {
            spec["strategy"] = json!("Overlap");
            spec["overlap"] = json!({ "gracePeriod": format!("{grace}s") });
        }
        if setting.is_restarting {
            let named = |text: &str| json!({ "kind": target(text).kind.as_str(), "name": target(text).name });
            spec["restartTargets"] = WORKLOADS.map(named).into();
        }
        if setting.delay > 0 {
            spec["restartDelay"] = json!(format!("{}s", setting.delay));
        }
        if setting.is_dressed {
            for dress in [Dress::Template(1), Dress::Previous, Dress::Delete] {
                dress.edit(&mut spec["target"]);
            }
        }
        if setting.is_verified {
            spec["verification"] = json!({ "url": format!("https://{INFERENCE_HOST}/v1/infers/any-service") });
        }
    });
}

fn remake(stage: &Stage, which: usize, change: impl FnOnce(&mut Value, &Value)) {
    let old = stage.api.object(ROTATIONS, NAMESPACE, NAMES[which]);
    stage.api.delete(ROTATIONS, NAMESPACE, NAMES[which]);
    // One that is held by a finalizer is not there to be made again yet.
    let is_held = stage.api.object(ROTATIONS, NAMESPACE, NAMES[which]).is_some();
    if let Some(old) = old.filter(|_| !is_held) {
        stage.create_rotation_named(NAMES[which], |spec| change(spec, &old["spec"]));
    }
}

pub fn resume(stage: &Stage, which: usize) {
    edit(stage, which, |object| {
        object["spec"].as_object_mut().unwrap().remove("suspend");
    });
}

pub fn give_credentials(stage: &Stage) {
    if stage.secret(CREDENTIALS).is_none() {
        let user = &stage.user;
        stage.create_secret(CREDENTIALS, &[("accessKey", &user.ak), ("secretKey", &user.sk)]);
    }
}

fn edit_secret(stage: &Stage, which: usize) {
    let name = secret_of(stage, which);
    if stage.secret(&name).is_some() {
        stage.judge.excuse(&name);
        stage.edit_secret(&name, &[("appCode", "edited-by-somebody")]);
    }
}

fn delete_secret(stage: &Stage, which: usize) {
    let name = secret_of(stage, which);
    let object = stage.api.object(ROTATIONS, NAMESPACE, NAMES[which]).unwrap_or_default();
    // An addition is shown before it is made, if that may be written.
    let is_shown = object["spec"]["strategy"] == "Overlap" && !stage.api.is_revoked(ROTATIONS, Verb::PutStatus);
    let secret = stage.secret(&name).unwrap_or_default();
    stage.judge.excuse(&name);
    stage.judge.note_taken(&secret);
    if excuse_untold(stage, which, &name) {
        stage.judge.note_untold(stage, &secret);
        if let Some(shown) = object["status"]["current"]["fingerprint"].as_str()
            && !is_shown
        {
            stage.judge.allow_return(name.clone(), shown.to_owned());
        }
    }
    stage.delete_secret(&name);
    note_forgotten(stage, which);
}

fn restore_secret(stage: &Stage, which: usize) {
    let name = secret_of(stage, which);
    let Some(backup) = stage.api.backup(NAMESPACE, &name) else {
        return;
    };
    let (is_open, is_late) = (
        stage.judge.has_open(&stage.secret(&name).unwrap_or_default()),
        stage.cloud.with(|cloud| cloud.is_late()),
    );
    // What a backup does not tell of may land at any time.
    if is_open && is_late {
        stage.judge.excuse_for_good(&name);
    } else {
        stage.judge.excuse(&name);
    }
    excuse_untold(stage, which, &name);
    stage.judge.note_taken(&stage.secret(&name).unwrap_or_default());
    let is_there = stage.api.edit(SECRETS, NAMESPACE, &name, |object| {
        object["data"] = backup["data"].clone();
        for field in ["annotations", "labels"] {
            object["metadata"][field] = backup["metadata"][field].clone();
        }
    });
    if !is_there {
        stage.api.apply_new(SECRETS, Value::clone(&backup), stage.time.truth());
    }
}

/// Names the youngest listed code, as a person does who looks at the app.
fn reseed(stage: &Stage, which: usize) {
    let Some(code) = stage.live().last().cloned() else {
        return;
    };
    // Another resource may keep that code. The older of the two has it, and a younger one loses it to a rotation.
    for other in (0..NAMES.len()).filter(|other| *other != which) {
        let secret = secret_of(stage, other);
        if stage.code_in(&secret).as_ref() == Some(&code) {
            stage.judge.excuse(&secret);
        }
    }
    edit(stage, which, |object| {
        object["spec"].as_object_mut().unwrap().remove("appCodeFrom");
        object["spec"]["appCode"] = json!(code);
    });
}

fn stranger_deletes(stage: &Stage, which: usize) {
    let name = secret_of(stage, which);
    let Some(code) = stage.code_in(&name) else { return };
    // Whoever else keeps that code is hit as well.
    for other in 0..NAMES.len() {
        let other = secret_of(stage, other);
        if stage.code_in(&other).as_ref() == Some(&code) {
            stage.judge.excuse(&other);
        }
    }
    let now = stage.time.truth();
    stage.cloud.with(|cloud| cloud.remove_code(now, &stage.app, &code));
}

const INTENT: &str = "appcode.dev/intent";

fn forge(stage: &Stage, which: usize, forgery: Forgery) {
    let name = secret_of(stage, which);
    let Some(code) = stage.code_in(&name) else { return };
    let print = |code: &str| Fingerprint::of(&AppId::parse(stage.app.clone()).unwrap(), code).to_string();
    // What is under way is known from the intent: whoever overwrites an open one takes that knowledge away, and the call may
    // land at any time.
    if stage.judge.has_open(&stage.secret(&name).unwrap_or_default()) {
        stage.judge.excuse_for_good(&name);
    } else if forgery == Forgery::Code {
        stage.judge.excuse(&name);
    }
    if forgery != Forgery::Code {
        excuse_untold(stage, which, &name);
    }
    if forgery == Forgery::Code {
        stage.edit_secret(&name, &[("appCode", "a-forged-code")]);
    }
    stage.api.edit(SECRETS, NAMESPACE, &name, |object| {
        let annotations = &mut object["metadata"]["annotations"];
        if forgery == Forgery::Code {
            annotations["appcode.dev/fingerprint"] = json!(print("a-forged-code"));
        } else {
            annotations[INTENT] = json!(intent(stage, &print(&code), forgery).to_string());
        }
    });
}

/// An intent that asks for a reset of the present code.
fn intent(stage: &Stage, base: &str, forgery: Forgery) -> Value {
    let mut app = json!({ "endpoint": stage.endpoint, "projectId": stage.project, "appId": stage.app });
    match forgery {
        Forgery::App => app["appId"] = json!("of-somebody-else"),
        _ => app["endpoint"] = json!("https://somewhere.else.example.com"),
    }
    let time = stage.time.truth();
    json!({
        "formatVersion": 1, "rotationId": "0123456789abcdef", "number": 1000, "uid": "", "generation": 1,
        "trigger": "Target", "consumed": {}, "strategy": "Reset", "step": "Started", "app": app, "base": base,
        "call": "Reset", "known": [base], "attempt": 1, "startedAt": time, "markedAt": time,
    })
}
