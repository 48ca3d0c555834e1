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

use super::people::{Deed, Forgery};
use super::story::{Event, Named, Order, Setting, Story, What};
use crate::support::Stage;
use crate::support::process::Make;
use crate::support::script::{Moment, Strike};

/// One mistake.
pub struct Plant {
    /// What it does, in words.
    pub name: &'static str,
    set: fn(&Arc<Stage>, &mut Make),
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
    let of = |name, set, shown_by| Plant { name, set, shown_by };
    let seed = ShownBy::Seed;
    let told = ShownBy::Stories;
    vec![
        of("a PUT without an answer is sent once more", |_, make| make.wrap = Some(cloud::retry_once), seed(0)),
        of("500 is taken for 'not applied'", |_, make| make.wrap = Some(cloud::failed_is_not_applied), told(failed)),
        of("the last of the listed codes is taken", |_, make| make.wrap = Some(cloud::last_only), seed(0)),
        of("a masked list is trusted", |_, make| make.wrap = Some(cloud::masked_is_trusted), seed(0)),
        of("the intent is not written", |stage, _| cluster::drop_intents(stage), seed(0)),
        of("the Secret is written without resourceVersion", |stage, _| cluster::unfence(stage), told(overtaken)),
        of("the Secret is created with a code", |stage, _| cluster::create_with_code(stage), seed(0)),
        of("a cached resource is used", |stage, _| cluster::cache_resources(stage), told(deletions)),
        of("the status is written before the Secret", |stage, _| cluster::publish_first(stage), seed(0)),
        of("a restart rotates", |_, make| make.decide = Some(decide::rotate_on_restart), seed(0)),
        of(
            "the settle window is forgotten",
            |_, make| make.settings.limits.settle_window = SignedDuration::ZERO,
            seed(0),
        ),
        of("a code is adopted while the base is listed", |_, make| make.decide = Some(decide::adopt_early), told(visited)),
        of(
            "a held code is persisted after a conflict whatever its number",
            |_, make| make.decide = Some(decide::ignore_numbers),
            told(overtaken),
        ),
        of(
            "an intent that is not repeated is closed",
            |_, make| make.decide = Some(decide::close_unrepeated),
            told(withdrawn),
        ),
        of("an intent of another app is trusted", |_, make| make.decide = Some(decide::trust_app), told(|| forged(Forgery::App))),
        of(
            "an intent of another endpoint is trusted",
            |_, make| make.decide = Some(decide::trust_endpoint),
            told(|| forged(Forgery::Endpoint)),
        ),
        of(
            "a recorded code that is not listed is trusted",
            |_, make| make.decide = Some(decide::trust_code),
            told(|| forged(Forgery::Code)),
        ),
        of("the uid is ignored", |_, make| make.decide = Some(decide::ignore_uid), told(made_again)),
        of("other resources of the app are ignored", |_, make| make.decide = Some(decide::ignore_siblings), seed(0)),
        of("the known codes are forgotten", |_, make| make.decide = Some(decide::forget_known), seed(0)),
        of("a mark is acted on however late", |_, make| make.settings.prompt = Duration::from_secs(86_400), told(slept)),
        of("a request is handled as often as it is seen", |_, make| make.decide = Some(decide::forget_handled), seed(0)),
    ]
}

// ── stories told by hand ───────────────────────────────────────────────────────────────────────────────────────────

/// One code, taken over, one operator; a trigger was just changed.
fn setting() -> Setting {
    Setting {
        codes: 1,
        resources: 1,
        named: Named::No,
        is_immediate: false,
        is_scheduled: false,
        is_settled: true,
        operators: 1,
        order: Order::AsTheyCome,
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
        ..setting()
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
        ..setting()
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
        ..setting()
    };
    let pause = |at| strike(at, Strike::Pause(Moment::After, Duration::from_secs(1_000)));
    (6..24).map(|at| story(two(), vec![pause(at)])).collect()
}

/// A code is added some time after the cloud said that it failed.
fn failed() -> Vec<Story> {
    let none = Setting {
        codes: 0,
        is_settled: false,
        ..setting()
    };
    let late = Fault::late(Some(Duration::from_secs(60)), LostAnswer::Reply(Reply::from(500)));
    vec![story(none, vec![strike(0, Strike::Cloud(late.at(Operation::Add).once()))])]
}

/// A stranger adds a code while it is found out that a call had no effect.
fn visited() -> Vec<Story> {
    let lost = || strike(0, Strike::Cloud(Fault::cut_before().at(Operation::Reset).once()));
    let tell = |at| story(setting(), vec![lost(), deed(at, Moment::Before, Deed::StrangerAdds)]);
    (5..9).map(tell).collect()
}

/// The trigger is taken away after a call whose effect comes much later than anybody waits.
fn withdrawn() -> Vec<Story> {
    let late = Fault::late(Some(Duration::from_secs(1800)), LostAnswer::Cut);
    let late = || strike(0, Strike::Cloud(late.clone().at(Operation::Reset).once()));
    let held = [Deed::Withdraw(0), Deed::Suspend(0)];
    held.map(|held| story(setting(), vec![late(), deed(8, Moment::Before, held)])).into()
}

/// Somebody writes an intent, or a code, on the Secret that no operator wrote.
fn forged(forgery: Forgery) -> Vec<Story> {
    [15, 30]
        .map(|at| story(setting(), vec![deed(at, Moment::After, Deed::Forge(0, forgery))]))
        .into()
}

/// What a resource asked for at first sight is not made up for once another one of that name asks for nothing.
fn made_again() -> Vec<Story> {
    let named = || Setting {
        named: Named::Inline,
        is_settled: false,
        ..setting()
    };
    let lost = || strike(0, Strike::Cloud(Fault::cut_before().at(Operation::Reset).once()));
    let tell = |at| Story {
        most_changes: Some(0),
        ..story(named(), vec![lost(), deed(at, Moment::After, Deed::RemakePlain(0))])
    };
    (6..10).map(tell).collect()
}
