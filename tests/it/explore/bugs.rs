//! Planted bugs: mistakes that an operator like this one may make, each of which some story must show.
//!
//! None is in the operator. A mistake is made in front of the cloud, in front of the API server, in the settings, or
//! around the function that decides, so that all else is the real thing.

mod cloud;
mod cluster;
mod decide;

use std::sync::Arc;
use std::time::Duration;

use cloud_simulator::{Fault, LostAnswer, Operation, Reply};
use jiff::SignedDuration;

use self::ShownBy::{Seed, Stories};
use super::people::{Deed, Dress, Forgery};
use super::story::{Event, Named, Setting, Story, What};
use crate::support::Stage;
use crate::support::invariant::Invariant;
use crate::support::process::Make;
use crate::support::script::{Moment, Strike};

/// One mistake.
pub struct Plant {
    /// What it does, in words.
    pub name: &'static str,
    set: fn(&Arc<Stage>, &mut Make),
    /// What it breaks: a judge that is blind to that would not see it, whatever else goes wrong in its wake.
    pub breaks: Invariant,
    pub shown_by: ShownBy,
}

/// What shows it.
pub enum ShownBy {
    /// A story of the fixed set. The number of one is told so that none must be searched for.
    Seed(u64),
    /// Stories that are too rare to come up by chance.
    Stories(fn() -> Vec<Story>),
}

impl Plant {
    pub fn set(&self, stage: &Arc<Stage>, make: &mut Make) {
        (self.set)(stage, make);
    }
}

pub fn all() -> Vec<Plant> {
    [
        before_the_cloud(),
        before_the_api_server(),
        in_settings(),
        in_sight(),
        in_words(),
        beyond(),
        on_the_secret(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn plant(name: &'static str, set: fn(&Arc<Stage>, &mut Make), breaks: Invariant, shown_by: ShownBy) -> Plant {
    Plant {
        name,
        set,
        breaks,
        shown_by,
    }
}

fn before_the_cloud() -> Vec<Plant> {
    vec![
        plant(
            "a PUT without an answer is sent once more",
            |_, make| make.wrap = Some(cloud::retry_once),
            Invariant::MarkedFirst,
            Seed(16),
        ),
        plant(
            "500 is taken for 'not applied'",
            |_, make| make.wrap = Some(cloud::failed_is_not_applied),
            Invariant::OneChangeForOneReason,
            Stories(failed),
        ),
        plant(
            "the last of the listed codes is taken",
            |_, make| make.wrap = Some(cloud::last_only),
            Invariant::AskedInNeed,
            Seed(0),
        ),
        plant(
            "a masked list is trusted",
            |_, make| make.wrap = Some(cloud::masked_is_trusted),
            Invariant::NothingLeft,
            Seed(18),
        ),
    ]
}

fn before_the_api_server() -> Vec<Plant> {
    vec![
        plant(
            "the intent is not written",
            |stage, _| cluster::drop_intents(stage),
            Invariant::MarkedFirst,
            Seed(2),
        ),
        plant(
            "the Secret is written without resourceVersion",
            |stage, _| cluster::unfence(stage),
            Invariant::NeverOlder,
            Stories(overtaken),
        ),
        plant(
            "the Secret is created with a code",
            |stage, _| cluster::create_with_code(stage),
            Invariant::MadeEmpty,
            Seed(0),
        ),
        plant(
            "a cached resource is used",
            |stage, _| cluster::cache_resources(stage),
            Invariant::OnlyItsSecret,
            Stories(deletions),
        ),
        plant(
            "the status is written before the Secret",
            |stage, _| cluster::publish_first(stage),
            Invariant::NoCodeLost,
            Seed(0),
        ),
    ]
}

fn in_settings() -> Vec<Plant> {
    vec![
        plant(
            "the settle window is forgotten",
            |_, make| make.settings.limits.settle_window = SignedDuration::ZERO,
            Invariant::OneChangeForOneReason,
            Stories(failed),
        ),
        plant(
            "a mark is acted on however late",
            |_, make| make.settings.prompt = Duration::from_secs(86_400),
            Invariant::OneChangeForOneReason,
            Stories(slept),
        ),
    ]
}

/// In what the deciding function sees.
fn in_sight() -> Vec<Plant> {
    vec![
        plant(
            "a restart rotates",
            |_, make| make.decide = Some(decide::rotate_on_restart),
            Invariant::OneChangeForOneReason,
            Seed(4),
        ),
        plant(
            "a code is adopted while the base is listed",
            |_, make| make.decide = Some(decide::adopt_early),
            Invariant::OnlyOurs,
            Stories(visited),
        ),
        plant(
            "a held code is persisted after a conflict whatever its number",
            |_, make| make.decide = Some(decide::ignore_numbers),
            Invariant::NeverOlder,
            Stories(overtaken),
        ),
        plant(
            "an intent of another app is trusted",
            |_, make| make.decide = Some(decide::trust_app),
            Invariant::MarkedFirst,
            Stories(|| forged(Forgery::App)),
        ),
        plant(
            "an intent of another endpoint is trusted",
            |_, make| make.decide = Some(decide::trust_endpoint),
            Invariant::MarkedFirst,
            Stories(|| forged(Forgery::Endpoint)),
        ),
        plant(
            "a recorded code that is not listed is trusted",
            |_, make| make.decide = Some(decide::trust_code),
            Invariant::NoCodeLost,
            Stories(|| forged(Forgery::Code)),
        ),
        plant(
            "the uid is ignored",
            |_, make| make.decide = Some(decide::ignore_uid),
            Invariant::OneChangeForOneReason,
            Stories(made_again),
        ),
        plant(
            "other resources of the app are ignored",
            |_, make| make.decide = Some(decide::ignore_siblings),
            Invariant::LeftToOthers,
            Seed(29),
        ),
        plant(
            "a request is handled as often as it is seen",
            |_, make| make.decide = Some(decide::forget_handled),
            Invariant::NothingAgain,
            Seed(28),
        ),
    ]
}

/// In what it says.
fn in_words() -> Vec<Plant> {
    vec![
        plant(
            "an intent that is not repeated is closed",
            |_, make| make.decide = Some(decide::close_unrepeated),
            Invariant::NoCodeLost,
            Stories(withdrawn),
        ),
        plant(
            "what is waited for is looked at each second",
            |_, make| make.decide = Some(decide::wait_briefly),
            Invariant::BoundedCalls,
            Seed(29),
        ),
        plant(
            "the known codes are forgotten",
            |_, make| make.decide = Some(decide::forget_known),
            Invariant::NoCodeLost,
            Seed(16),
        ),
    ]
}

/// In what comes after a new code is in the Secret.
fn beyond() -> Vec<Plant> {
    vec![
        plant(
            "the code before is retired before its grace period is over",
            |_, make| make.decide = Some(decide::ignore_grace),
            Invariant::GraceKept,
            Stories(handed_over),
        ),
        plant(
            "the code before is retired before workloads have rolled out",
            |_, make| make.decide = Some(decide::ignore_rollouts),
            Invariant::RolledOut,
            Stories(handed_over),
        ),
        plant(
            "the code before is retired though the new one was not seen to work",
            |_, make| make.decide = Some(decide::ignore_trials),
            Invariant::TriedFirst,
            Stories(handed_over),
        ),
        plant(
            "the newest code is deleted in the place of the one before",
            |_, make| make.wrap = Some(cloud::delete_newest),
            Invariant::OnlyOurs,
            Stories(handed_over),
        ),
        plant(
            "the finalizer is left behind",
            |_, make| make.decide = Some(decide::keep_finalizer),
            Invariant::FinalizerGoes,
            Stories(handed_over),
        ),
        plant(
            "a code is deleted without a mark",
            |stage, _| cluster::drop_retirements(stage),
            Invariant::MarkedFirst,
            Stories(handed_over),
        ),
        plant(
            "a POST without an answer is taken for not applied",
            |_, make| make.wrap = Some(cloud::lost_is_not_applied),
            Invariant::NothingLeft,
            Stories(added_unheard),
        ),
        plant(
            "a POST is not shown in status before it is made",
            |stage, _| cluster::drop_mirrors(stage),
            Invariant::NeverOlder,
            Stories(lost_with_the_secret),
        ),
        plant(
            "codes are stacked",
            |_, make| make.decide = Some(decide::stack_codes),
            Invariant::OneBeside,
            Stories(asked_in_the_grace_period),
        ),
        plant(
            "workloads are restarted again after a crash",
            |stage, _| cluster::forget_restarts(stage),
            Invariant::RestartedOnce,
            Stories(killed_while_restarting),
        ),
        plant(
            "a code is retired that another resource holds",
            |_, make| make.decide = Some(decide::retire_what_others_hold),
            Invariant::LeftToOthers,
            Stories(taken_over),
        ),
    ]
}

/// In what stands on the Secret besides the code.
fn on_the_secret() -> Vec<Plant> {
    vec![
        plant(
            "a changed template waits for the next code",
            |_, make| make.decide = Some(decide::keep_rendering),
            Invariant::DressedAsSpec,
            Stories(dressed_anew),
        ),
        plant(
            "an owner reference is never looked at again",
            |_, make| make.decide = Some(decide::keep_owner),
            Invariant::DressedAsSpec,
            Stories(kept),
        ),
    ]
}

// ── stories told by hand ───────────────────────────────────────────────────────────────────────────────────────────

/// One code with `Overlap`, a grace period of ten minutes, tries and restarts.
fn beside() -> Setting {
    Setting {
        grace: Some(600),
        is_restarting: true,
        is_verified: true,
        ..Setting::ONE_CODE
    }
}

fn strike(at: usize, strike: Strike) -> Event {
    Event {
        at,
        what: What::Strike(strike),
        times: 1,
    }
}

fn deed(at: usize, moment: Moment, deed: Deed) -> Event {
    Event {
        at,
        what: What::Deed(moment, deed),
        times: 1,
    }
}

fn story(setting: Setting, events: Vec<Event>) -> Story {
    Story {
        seed: 0,
        setting,
        events,
        most_changes: None,
    }
}

/// The resource is deleted at each call of its first pass.
fn deletions() -> Vec<Story> {
    let first = || Setting {
        is_settled: false,
        ..Setting::ONE_CODE
    };
    let delete = |at| story(first(), vec![deed(at, Moment::After, Deed::DeleteResource(0))]);
    (0..8).map(delete).collect()
}

/// One operator stands still after a call, for so long that the other one does its work, and then makes a newer code from
/// another base. Which call matters depends on the order, so each is tried.
fn overtaken() -> Vec<Story> {
    let two = || Setting {
        codes: 2,
        named: Named::InSecret,
        operators: 2,
        ..Setting::ONE_CODE
    };
    let hour = Duration::from_secs(3600);
    let pause = |at| strike(at, Strike::Pause(Moment::After, hour));
    let tell = |at| story(two(), vec![pause(at), deed(100, Moment::After, Deed::Reseed(0))]);
    (6..24).map(tell).collect()
}

/// The same where a code is added: a call that is made late adds another one.
fn slept() -> Vec<Story> {
    let two = || Setting {
        codes: 0,
        is_settled: false,
        operators: 2,
        ..Setting::ONE_CODE
    };
    let pause = |at| strike(at, Strike::Pause(Moment::After, Duration::from_secs(1_000)));
    (6..24).map(|at| story(two(), vec![pause(at)])).collect()
}

/// A code is added some time after the cloud said that it failed.
fn failed() -> Vec<Story> {
    let none = Setting {
        codes: 0,
        is_settled: false,
        ..Setting::ONE_CODE
    };
    let late = Fault::late(Some(Duration::from_secs(60)), LostAnswer::Reply(Reply::from(500)));
    vec![story(
        none,
        vec![strike(0, Strike::Cloud(late.at(Operation::Add).once()))],
    )]
}

/// A stranger adds a code while it is found out that a call had no effect.
fn visited() -> Vec<Story> {
    let lost = || strike(0, Strike::Cloud(Fault::cut_before().at(Operation::Reset).once()));
    let tell = |at| {
        story(
            Setting::ONE_CODE,
            vec![lost(), deed(at, Moment::Before, Deed::StrangerAdds)],
        )
    };
    (5..9).map(tell).collect()
}

/// The trigger is taken away after a call whose effect comes much later than anybody waits.
fn withdrawn() -> Vec<Story> {
    let late = Fault::late(Some(Duration::from_secs(1800)), LostAnswer::Cut);
    let late = || strike(0, Strike::Cloud(late.clone().at(Operation::Reset).once()));
    let held = [Deed::Withdraw(0), Deed::Suspend(0)];
    held.map(|held| story(Setting::ONE_CODE, vec![late(), deed(8, Moment::Before, held)]))
        .into()
}

/// Somebody writes an intent, or a code, on the Secret that no operator wrote.
fn forged(forgery: Forgery) -> Vec<Story> {
    [15, 30]
        .map(|at| {
            story(
                Setting::ONE_CODE,
                vec![deed(at, Moment::After, Deed::Forge(0, forgery))],
            )
        })
        .into()
}

/// What a resource asked for at first sight is not made up for once another one of that name asks for nothing.
fn made_again() -> Vec<Story> {
    let named = || Setting {
        named: Named::Inline,
        is_settled: false,
        ..Setting::ONE_CODE
    };
    let lost = || strike(0, Strike::Cloud(Fault::cut_before().at(Operation::Reset).once()));
    let tell = |at| Story {
        most_changes: Some(0),
        ..story(named(), vec![lost(), deed(at, Moment::After, Deed::RemakePlain(0))])
    };
    (6..10).map(tell).collect()
}

/// Nothing goes wrong.
fn handed_over() -> Vec<Story> {
    vec![story(beside(), Vec::new())]
}

fn added_unheard() -> Vec<Story> {
    let late = Fault::late(Some(Duration::from_secs(60)), LostAnswer::Cut);
    vec![story(
        beside(),
        vec![strike(0, Strike::Cloud(late.at(Operation::Add).once()))],
    )]
}

/// The process is killed before it has written the code that it added, and then the Secret is deleted.
fn lost_with_the_secret() -> Vec<Story> {
    let tell = |at| {
        let killed = strike(at, Strike::Crash(Moment::After));
        story(
            beside(),
            vec![killed, deed(at + 1, Moment::Before, Deed::DeleteSecret(0))],
        )
    };
    (4..14).map(tell).collect()
}

fn asked_in_the_grace_period() -> Vec<Story> {
    let long = Setting {
        grace: Some(3_600),
        ..beside()
    };
    let asked = [Deed::Trigger(0, 2), Deed::Pass(900)];
    let events = asked.into_iter().map(|what| deed(200, Moment::Before, what));
    vec![story(long, events.collect())]
}

fn killed_while_restarting() -> Vec<Story> {
    let tell = |at| story(beside(), vec![strike(at, Strike::Crash(Moment::After))]);
    (10..40).map(tell).collect()
}

/// The older of two resources takes over the code that the younger one is about to retire, and keeps it for its own grace
/// period.
fn taken_over() -> Vec<Story> {
    let two = Setting {
        codes: 2,
        resources: 2,
        named: Named::InSecret,
        ..beside()
    };
    let deeds = [
        Deed::Grace(1, 10_000),
        Deed::Trigger(1, 2),
        Deed::Pass(900),
        Deed::Pass(60),
        Deed::SeedRetiring(0),
    ];
    let events = deeds.into_iter().map(|what| deed(300, Moment::Before, what));
    vec![story(two, events.collect())]
}

fn dressed() -> Setting {
    Setting {
        is_dressed: true,
        ..Setting::ONE_CODE
    }
}

/// The template is edited when all else is done.
fn dressed_anew() -> Vec<Story> {
    let edit = deed(60, Moment::Before, Deed::Dress(0, Dress::Template(2)));
    vec![story(dressed(), vec![edit])]
}

/// The same with what becomes of the Secret.
fn kept() -> Vec<Story> {
    let edit = deed(60, Moment::Before, Deed::Dress(0, Dress::Retain));
    vec![story(dressed(), vec![edit])]
}

/// Stories that showed mistakes of the operator itself.
pub fn once_real() -> Vec<(&'static str, Story)> {
    let first = || Setting {
        is_settled: false,
        ..Setting::ONE_CODE
    };
    let two = || Setting {
        operators: 2,
        ..first()
    };
    let retarget = |at| story(first(), vec![deed(at, Moment::After, Deed::Retarget(0))]);
    let forge = |at| story(two(), vec![deed(at, Moment::After, Deed::Forge(0, Forgery::App))]);
    let retargets = (0..5).map(|at| ("a Secret was made that the resource named no more", retarget(at)));
    let forgeries = (14..26).map(|at| ("an intent of another app made Ready come and go", forge(at)));
    retargets.chain(forgeries).collect()
}
