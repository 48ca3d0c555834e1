//! What the content of a story, as it went, allows: stops, changes, and codes that are left.

use cloud_simulator::{Fault, FaultKind, Half, Lag, Operation};

use crate::explore::people::{Deed, NAMES};
use crate::explore::story::{Named, Story, What};
use crate::support::Stage;
use crate::support::script::Strike;

/// Nothing is added again before this many milliseconds have passed, which are two settle windows.
const UNREPEATED: u64 = 240_000;
/// Codes that an app can have.
const CAPACITY: usize = 5;

pub(super) fn has(story: &Story, wanted: impl Fn(&Deed) -> bool) -> bool {
    story.deeds().any(wanted)
}

pub(super) fn has_fault(story: &Story, wanted: impl Fn(&FaultKind) -> bool) -> bool {
    story.faults().any(|fault| wanted(&fault.kind))
}

pub(super) fn is_half(kind: &FaultKind) -> bool {
    matches!(kind, FaultKind::HalfReset { .. })
}

/// The code before is gone and none was made.
fn is_lost(kind: &FaultKind) -> bool {
    matches!(kind, FaultKind::HalfReset { left: Half::NoneMade })
}

/// The code before works on, and one was made beside it.
fn is_more(kind: &FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::HalfReset {
            left: Half::BothPresent
        }
    )
}

/// A list that lags by less than the settle window is read once more before anything is believed.
pub(super) fn is_stale(kind: &FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::Stale {
            lag: Lag::OneChange | Lag::Frozen
        }
    )
}

/// An addition cannot be told from another one, and is what an app without codes or a half reset needs.
pub(super) fn may_add(story: &Story) -> bool {
    story.setting.codes == 0
        || is_beside(story)
        || has_fault(story, is_lost)
        || has(story, |deed| matches!(deed, Deed::StrangerDeletes(_)))
}

/// Whether codes are put beside those before.
pub(super) fn is_beside(story: &Story) -> bool {
    story.setting.grace.is_some() || has(story, |deed| matches!(deed, Deed::Strategy(_, true)))
}

/// Whether a code of ours may be left that no Secret holds: two came to be, or what was to be retired was forgotten with
/// the Secret or the status that told of it, or taken for somebody else's.
pub(super) fn may_leave(story: &Story) -> bool {
    let is_harmless = |deed: &Deed| {
        matches!(
            deed,
            Deed::Label(_)
                | Deed::EditSecret(_)
                | Deed::Trigger(..)
                | Deed::Request(..)
                | Deed::Suspend(_)
                | Deed::Resume(_)
                | Deed::TakeCredentials
                | Deed::GiveCredentials
                | Deed::Jump(_)
                | Deed::Pass(_)
                | Deed::Restart(_)
                | Deed::Grace(..)
                | Deed::Strategy(..)
                | Deed::PauseWorkload(_)
                | Deed::RollBack(_)
                | Deed::DeleteWorkload(_)
                | Deed::MakeWorkload(_)
                | Deed::Withdraw(_)
                | Deed::Retarget(_)
                | Deed::Dress(..)
                | Deed::Lag(_)
                | Deed::Revoke(_)
                | Deed::Blind { .. }
                | Deed::Repeat
        )
    };
    may_begin_twice(story) || has(story, |deed| !is_harmless(deed)) || story.faults().any(|fault| excuses(story, fault))
}

/// Whether two operators without a Lease may each add a code on another Secret, only one of which is looked after in the end.
fn may_begin_twice(story: &Story) -> bool {
    let adds = is_beside(story) || story.setting.codes == 0;
    adds && story.setting.operators > 1 && has(story, |deed| matches!(deed, Deed::Retarget(_)))
}

/// Whether what status told is forgotten: it was emptied, or went with its resource.
fn is_status_lost(story: &Story) -> bool {
    has(story, |deed| {
        matches!(
            deed,
            Deed::WipeStatus(_) | Deed::MakeResource(_) | Deed::RemakeResource(_) | Deed::RemakePlain(_)
        )
    })
}

pub(super) fn may_stop(story: &Story, stage: &Stage, reason: &str) -> bool {
    let setting = &story.setting;
    let has_strangers = has(story, |deed| matches!(deed, Deed::StrangerAdds));
    match reason {
        // Nothing says which code to start from.
        "AppCodeAmbiguous" => {
            let is_unnamed = setting.named == Named::No || has(story, |deed| matches!(deed, Deed::RemakePlain(_)));
            let is_forgotten =
                is_status_lost(story) && has(story, |deed| matches!(deed, Deed::Retarget(_) | Deed::DeleteSecret(_)));
            let has_more = has_strangers
                || (setting.codes == 0 && may_begin_twice(story))
                || (is_forgotten && is_beside(story))
                || (setting.resources > 1 && is_beside(story))
                || has_fault(story, |kind| is_half(kind) || may_double(kind));
            is_unnamed && (setting.codes > 1 || has_more)
        }
        // The Secret was taken away, set back or overwritten in the middle of a rotation, or the code was taken away:
        // documented limits.
        // Or both resources name one code, and the other one has replaced it.
        // Or the only one who knew what became of the seed did not know the new target in time, or nobody did, as where the
        // resource was made again.
        "CodeNotListed" => {
            let is_moved = has(story, |deed| matches!(deed, Deed::Retarget(_)));
            let is_killed = story.strikes().any(|strike| matches!(strike, Strike::Crash(_)));
            let is_forgotten = is_status_lost(story) || is_killed || has_several_operators(story);
            // An addition that lands after it was given up is any other resource's too, as far as the list tells.
            let is_anyones = |fault: &Fault| may_double(&fault.kind) && fault.at.contains(&Operation::Add);
            (is_moved && is_forgotten)
                || (setting.resources > 1 && story.faults().any(is_anyones))
                || setting.codes < setting.resources
                || has(story, |deed| {
                    matches!(
                        deed,
                        Deed::DeleteSecret(_)
                            | Deed::RestoreSecret(_)
                            | Deed::StrangerDeletes(_)
                            | Deed::Reseed(_)
                            | Deed::SeedRetiring(_)
                            | Deed::Forge(..)
                    )
                })
        }
        // A stranger's code beside ours, two of ours, or one that nobody knows of any more.
        "AmbiguousOutcome" => {
            let is_untold = stage.judge.excused_changes() > 0;
            let is_unseen = has_fault(story, is_stale);
            let is_begun_twice = setting.codes == 0 && may_begin_twice(story);
            let may_be_two = is_untold || is_unseen || is_begun_twice || has_fault(story, may_double);
            let is_two = (may_add(story) && may_be_two) || may_entangle(story) || stage.judge.is_left_open(stage);
            // What half a reset has made while its old code works on, and no reading shows in time, or before another reset of
            // that one lands.
            let is_again = setting.operators > 1 || has_fault(story, may_double);
            let is_two = is_two || ((is_unseen || is_again) && has_fault(story, is_more));
            // The rotations of two resources are open together where one of them was said to be refused meanwhile.
            let is_two = is_two || (setting.resources > 1 && untold_changes(story) > 1);
            stage.judge.is_met_by_stranger() || stage.judge.is_code_untold() || is_two
        }
        // Strangers, doubled calls and other resources may take every place.
        "CapacityExhausted" => stage.judge.most_live() >= CAPACITY,
        // The older of two resources keeps the code.
        "Conflict" => {
            let is_shared =
                |deed: &Deed| matches!(deed, Deed::Reseed(_) | Deed::SeedRetiring(_) | Deed::RemakePlain(_));
            let is_unnamed = setting.codes < 2 || setting.named == Named::No;
            setting.resources > 1 && (is_unnamed || has(story, is_shared))
        }
        _ => false,
    }
}

/// Whether two operators can have begun rotations of two resources at once, and nothing tells which code is whose.
pub(super) fn may_entangle(story: &Story) -> bool {
    let is_hurt = story.strikes().next().is_some() || has(story, |deed| matches!(deed, Deed::DeleteResource(_)));
    story.setting.resources > 1 && has_several_operators(story) && is_hurt
}

/// Changes that were made and whose answers did not tell so.
fn untold_changes(story: &Story) -> usize {
    let is_change = |at: &Operation| matches!(at, Operation::Add | Operation::Reset);
    let is_made = |kind: &FaultKind| {
        use FaultKind::{CutBefore, StatusBefore, Throttle};
        !matches!(kind, StatusBefore(_) | CutBefore | Throttle { .. })
    };
    let times = story.events.iter().map(|event| match &event.what {
        What::Strike(Strike::Cloud(fault)) if fault.at.iter().any(is_change) && is_made(&fault.kind) => event.times,
        _ => 0,
    });
    times.sum()
}

/// Whether another operator works while one has not come back yet.
pub(super) fn has_several_operators(story: &Story) -> bool {
    story.setting.operators > 1
        || has(story, |deed| matches!(deed, Deed::Restart(_)))
        || story.strikes().any(|strike| matches!(strike, Strike::Lapse(..)))
}

/// Whether a fault may bring a second effect about.
pub(super) fn may_double(kind: &FaultKind) -> bool {
    match kind {
        FaultKind::Duplicate { .. } => true,
        FaultKind::Late { after_millis, .. } => after_millis.is_none_or(|millis| millis >= UNREPEATED),
        _ => false,
    }
}

/// Changes that have a reason, or an excuse in the fault model.
pub(super) fn most_changes(story: &Story, hours: i64) -> usize {
    if let Some(most) = story.most_changes {
        return most;
    }
    let setting = &story.setting;
    let begins_by_change = setting.named == Named::Inline || setting.codes == 0 || setting.is_immediate;
    let first = if begins_by_change { setting.resources } else { 0 };
    let starts_by_change =
        begins_by_change || has(story, |deed| matches!(deed, Deed::Reseed(_) | Deed::SeedRetiring(_)));
    let is_secret_lost = has(story, |deed| matches!(deed, Deed::DeleteSecret(_)));
    let asked = |deed: &&Deed| match deed {
        // A code of ours that a person deletes before it is in the Secret looks like a half reset.
        Deed::Trigger(..) | Deed::Request(..) | Deed::Reseed(_) | Deed::SeedRetiring(_) | Deed::StrangerDeletes(_) => {
            true
        }
        // What was emptied in both places was never there.
        Deed::WipeStatus(_) => starts_by_change && is_secret_lost,
        // The new Secret begins anew where nothing tells of the first one yet.
        Deed::Retarget(_) => {
            let is_killed = story.strikes().any(|strike| matches!(strike, Strike::Crash(_)));
            starts_by_change && (is_killed || has_several_operators(story))
        }
        Deed::MakeResource(_) | Deed::RemakeResource(_) | Deed::RemakePlain(_) => starts_by_change,
        // Where no credentials are, what became of a change is nobody's, and another resource takes it for the app's own.
        Deed::TakeCredentials => setting.resources > setting.codes && story.strikes().next().is_some(),
        _ => false,
    };
    let asked = story.deeds().filter(asked).count();
    let excused: usize = story
        .events
        .iter()
        .map(|event| match &event.what {
            What::Strike(Strike::Cloud(fault)) if excuses(story, fault) => event.times,
            _ => 0,
        })
        .sum();
    let scheduled = if setting.is_scheduled {
        let days = usize::try_from(hours / 48).unwrap_or_default() + 1;
        (days + usize::from(has(story, |deed| matches!(deed, Deed::Jump(_))))) * setting.resources
    } else {
        0
    };
    first + usize::from(setting.is_settled) + asked + excused + scheduled
}

/// Whether a fault may cost one change more. A reset that comes twice, or late, finds its code gone; an addition does not, and
/// is not seen where the list does not show it.
pub(super) fn excuses(story: &Story, fault: &Fault) -> bool {
    let strikes = |operation| fault.at.contains(&operation);
    match &fault.kind {
        kind if is_half(kind) => true,
        kind if may_double(kind) => strikes(Operation::Add),
        // Who is told that the credentials are bad holds up nobody else, who then takes the code for the app's own.
        FaultKind::StatusAfter(reply) if matches!(reply.status, 401 | 403) => {
            // So does who names that code.
            let is_named = has(story, |deed| matches!(deed, Deed::Reseed(_)));
            !strikes(Operation::Show) && story.setting.resources > if is_named { 1 } else { story.setting.codes }
        }
        kind => is_stale(kind) && may_add(story),
    }
}

/// A person may name an older code.
pub(super) fn may_go_back(story: &Story, secret: &str) -> bool {
    has(story, |deed| match deed {
        Deed::Reseed(which) | Deed::SeedRetiring(which) => secret.starts_with(NAMES[*which]),
        _ => false,
    })
}
