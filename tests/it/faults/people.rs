//! What people do to a resource, its Secrets and its app in the middle of a pass, and a machine that sleeps.
//!
//! The deeds are those of the random stories; here each is done at every call, and what it may cost is told.

use std::time::Duration;

use super::expected::{NEXT_CHECK, Toll};
use super::scenario::Scenario;
use super::{Struck, explore_thinly, gaps, is_write_of_secret};
use crate::explore::people::{Deed, Forgery};
use crate::explore::story::Setting;
use crate::support::Stage;
use crate::support::api_server::{DEPLOYMENTS, SECRETS, STATEFUL_SETS};
use crate::support::script::{Act, Call, Strike, Verb};
use crate::support::stage::{NAME, NAMESPACE};

/// Of some two thousand strikes `make test` tries one in so many, spread so that each deed and each call has its turn.
const ONE_IN: usize = 24;
/// How long what comes back is away.
const AWAY: Duration = Duration::from_secs(600);

/// Deeds ask the setting only for what a resource looks like that is made, and none makes one here.
const SETTING: Setting = Setting::ONE_CODE;

fn act(name: &'static str, deed: Deed) -> Act {
    Act::new(name, move |stage: &Stage| deed.work(stage, &SETTING))
}

/// Something is done, and something else a while later.
fn act_for_a_while(
    name: &'static str,
    begin: impl Fn(&Stage) + Send + Sync + 'static,
    end: impl Fn(&Stage) + Clone + Send + Sync + 'static,
) -> Act {
    Act::new(name, move |stage: &Stage| {
        begin(stage);
        let over = stage.time.truth() + AWAY;
        let end = end.clone();
        stage.later(move |stage| {
            let is_over = stage.time.truth() >= over;
            if is_over {
                end(stage);
            }
            is_over
        });
    })
}

fn suspension() -> Act {
    let work = |deed: Deed| move |stage: &Stage| deed.work(stage, &SETTING);
    act_for_a_while(
        "the resource is suspended for ten minutes",
        work(Deed::Suspend(0)),
        work(Deed::Resume(0)),
    )
}

fn loss_of_credentials() -> Act {
    let work = |deed: Deed| move |stage: &Stage| deed.work(stage, &SETTING);
    act_for_a_while(
        "the credentials are away for ten minutes",
        work(Deed::TakeCredentials),
        work(Deed::GiveCredentials),
    )
}

/// A Secret that is immutable stays so: a person makes it anew, with all that stands on it, as its message says.
fn freeze() -> Act {
    let freeze = |stage: &Stage| {
        let freeze = |secret: &mut serde_json::Value| secret["immutable"] = true.into();
        stage.api.edit(SECRETS, NAMESPACE, NAME, freeze);
    };
    let thaw = |stage: &Stage| {
        let Some(mut secret) = stage.secret(NAME).filter(|secret| secret["immutable"] == true) else {
            return;
        };
        secret.as_object_mut().unwrap().remove("immutable");
        stage.delete_secret(NAME);
        stage.api.apply_new(SECRETS, secret, stage.time.truth());
    };
    act_for_a_while("the Secret is immutable for ten minutes", freeze, thaw)
}

/// The process stands still, as one does whose machine sleeps: no call is made, and all clocks go on. A grace period counts
/// from what was seen before, where the judge counts from the write that tells of it: `writes` that.
fn sleep(name: &'static str, seconds: u64, writes: bool) -> Act {
    Act::new(name, move |stage: &Stage| {
        if writes {
            stage.judge.excuse_grace();
        }
        stage.wait(Duration::from_secs(seconds));
    })
}

/// Names another Secret.
fn move_target(stage: &Stage) {
    // Nobody looks after the Secret of before once spec names another one.
    stage.judge.excuse(NAME);
    Deed::Retarget(0).work(stage, &SETTING);
}

/// What is gone that was written after a pass is put right by the next check.
fn of_records(struck: &Struck<'_>) -> Vec<(Act, Toll)> {
    let usual = Toll::slow().late(NEXT_CHECK);
    // In the middle of a change the Secret alone tells of the rotation: a person is asked who takes that away then.
    let lost = if struck.is_under_way() {
        usual.clone().stops("CodeNotListed")
    } else {
        usual.clone()
    };
    // Who forges an intent writes over the one that stood there, and with two codes that told of one of them.
    let forged = match (struck.scenario.is_beside(), struck.is_under_way()) {
        (true, true) => lost.clone().changes(0..=1).may_leave(),
        (true, false) => lost.clone().may_leave(),
        (false, _) => lost.clone(),
    };
    let mut all = vec![
        (
            act("an intent of another app is forged", Deed::Forge(0, Forgery::App)),
            forged.clone(),
        ),
        (
            act(
                "an intent of another endpoint is forged",
                Deed::Forge(0, Forgery::Endpoint),
            ),
            forged,
        ),
        (act("the status is wiped", Deed::WipeStatus(0)), usual),
        (freeze(), Toll::slow()),
    ];
    // A restart cannot be fenced by the Secret: between the last look at it and the restart is an instant.
    if !matches!(struck.call(), Call::Api { verb: Verb::Patch, resource, .. } if [DEPLOYMENTS, STATEFUL_SETS].contains(resource))
    {
        all.push((
            act("the Secret is restored from a backup", Deed::RestoreSecret(0)),
            lost,
        ));
    }
    all
}

/// Somebody else works on the app.
fn of_strangers(struck: &Struck<'_>) -> Vec<(Act, Toll)> {
    let usual = Toll::slow();
    // What came to be since the app was read may be ours or not, if another one is new beside it.
    let added = if struck.is_unseen() {
        usual.clone().stops("AmbiguousOutcome")
    } else {
        usual.clone()
    };
    // One who starts with no code named takes the only one, and asks where there are several.
    let added = match struck.scenario {
        Scenario::Adopt => added.stops("AppCodeAmbiguous"),
        Scenario::Add => added.stops("AppCodeAmbiguous").changes(-1..=0),
        _ => added,
    };
    // Before the call there is nothing to reset any more; after it a reset is half done and is carried through.
    let deleted = usual.late(NEXT_CHECK).stops("CodeNotListed").changes(-1..=1);
    // Workloads are looked at while a code that is gone is tried again and again.
    let deleted = if struck.scenario.is_distributed() {
        deleted.calls(130)
    } else {
        deleted
    };
    vec![
        (
            act("somebody else adds a code", Deed::StrangerAdds),
            added.may_leave().strangers(1),
        ),
        (act("somebody else deletes the code", Deed::StrangerDeletes(0)), deleted),
    ]
}

/// Spec comes to say something else.
fn of_specs(struck: &Struck<'_>) -> Vec<(Act, Toll)> {
    // Who names a code at first sight has it replaced. Who names the one that is just about to be replaced names one that is
    // gone then, or about to go, and has that one replaced again: the code made in between is nobody's.
    let is_replaced = struck.at <= struck.changes().last().unwrap_or_default();
    let seed = match struck.scenario {
        Scenario::Adopt => Toll::slow().changes(0..=1),
        scenario if scenario.is_beside() && is_replaced => {
            Toll::slow().changes(0..=1).stops("CodeNotListed").may_leave()
        }
        _ if is_replaced => Toll::slow().stops("CodeNotListed"),
        _ => Toll::slow(),
    };
    let mut all = vec![
        (suspension(), Toll::slow()),
        (loss_of_credentials(), Toll::slow()),
        (act("another code is named as the seed", Deed::Reseed(0)), seed),
    ];
    // What is on its way out moves nowhere.
    if struck.scenario != Scenario::Farewell {
        all.push((Act::new("another Secret is named", move_target), Toll::slow()));
    }
    all
}

fn of_sleep(struck: &Struck<'_>) -> Vec<(Act, Toll)> {
    let writes = is_write_of_secret(struck.call());
    vec![
        (sleep("the process sleeps for twenty seconds", 20, writes), Toll::slow()),
        (sleep("the process sleeps for an hour", 3600, writes), Toll::slow()),
    ]
}

/// All of it.
pub fn strikes(struck: &Struck<'_>) -> Vec<(Strike, Toll)> {
    let all = [
        of_records(struck),
        of_strangers(struck),
        of_specs(struck),
        of_sleep(struck),
    ]
    .concat();
    all.iter().flat_map(|(act, toll)| gaps(struck, act, toll)).collect()
}

#[test]
fn what_people_do_in_the_middle_of_a_pass_costs_no_code_and_no_reset() {
    explore_thinly(&Scenario::EVERY, ONE_IN, strikes);
}
