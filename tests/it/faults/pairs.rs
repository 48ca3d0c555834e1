//! Every pair of faults: each thing that can strike a call, and then each thing that can strike a later one, or that same
//! one where both can: something happens just before a call that fails, or just after it.
//!
//! The calls after the first strike are learnt by a run, since they are others than without it. What must come of a pair
//! follows from what each of the two may cost by itself; `together` names the few that cost more together, and why.
//! `make test` runs a thin sample, always the same; `EXPLORE_PAIRS=all` leaves none out, `EXPLORE_PAIRS=1000` takes every
//! thousandth, `EXPLORE_PAIRS=3/20` the third of twenty parts that together are all of them, `EXPLORE_SCENARIO=Trigger`
//! those of one scenario, and `EXPLORE_ONE_CALL=yes` only those that strike one call. `EXPLORE_PAIR` plays the one again that a
//! failure has named, and tells all that was said.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use cloud_simulator::{FaultKind, Operation};

use super::Struck;
use super::acts::{DELETED, GONE, MINUTES_BACK, REMADE, YEAR_BACK};
use super::case::{Case, learn, learn_with};
use super::cluster::LAG_OF_A_MINUTE;
use super::expected::{Expected, NEXT_CHECK, Toll, beyond};
use super::scenario::{Scenario, Transport};
use crate::explore::{NowAndThen, on_all_cores};
use crate::support::script::{Call, Moment, Strike, Verb};

/// First strikes of each scenario in the sample: any; those of a change or the call after it, which leave it open; and what
/// happens just before one of these two.
const SAMPLED: [usize; 3] = [3, 4, 4];
/// Second strikes after each of them in the sample: of the same call, and of later ones.
const SECONDS: [usize; 2] = [3, 3];
/// Runs at once on each core: a call that hangs takes a quarter of a second in which nothing is computed.
const AT_ONCE: usize = 4;
/// Failures that are told in full.
const MOST_TOLD: usize = 10;

fn is_change(call: &Call) -> bool {
    matches!(call, Call::Cloud(Operation::Reset | Operation::Add))
}

/// Whether it makes a call fail.
fn is_failure(strike: &Strike) -> bool {
    matches!(strike, Strike::Api(..) | Strike::Cloud(_) | Strike::Probe(_))
}

/// When something happens that leaves the call itself alone.
fn beside(strike: &Strike) -> Option<Moment> {
    match strike {
        Strike::Act(moment, _) | Strike::Stop(moment) | Strike::Takeover(moment, _) => Some(*moment),
        _ => None,
    }
}

/// Whether two strikes can strike one call in this order.
fn can_meet(first: &Strike, second: &Strike) -> bool {
    if let Some(moment) = beside(first) {
        return moment == Moment::Before && (is_failure(second) || matches!(second, Strike::Crash(_)));
    }
    let is_after = beside(second) == Some(Moment::After) || matches!(second, Strike::Crash(Moment::After));
    is_failure(first) && is_after
}

/// A strike of a run without another one before.
struct First {
    scenario: Scenario,
    at: usize,
    call: Call,
    strike: Strike,
    toll: Toll,
}

impl First {
    /// Every one of a scenario.
    fn all(scenario: Scenario) -> Vec<Self> {
        let calls = learn(scenario);
        let mut firsts = Vec::new();
        for at in 0..calls.len() {
            let struck = Struck {
                scenario,
                calls: &calls,
                at,
                is_first: true,
            };
            firsts.extend(struck.all().into_iter().map(|(strike, toll)| Self {
                scenario,
                at,
                call: calls[at].clone(),
                strike,
                toll,
            }));
        }
        firsts
    }

    /// How the name of each pair with this one begins.
    fn name(&self) -> String {
        let Self { scenario, at, call, .. } = self;
        format!("{scenario:?}: {:?} at call {at}, {call}, then ", self.strike)
    }

    /// Every pair with this one as the first, those that strike one call before the others.
    fn pairs(&self) -> Vec<Pair<'_>> {
        let calls = learn_with(self.scenario, vec![(self.at, self.strike.clone())], &[&self.toll], None);
        let mut pairs = Vec::new();
        for at in self.at..calls.len() {
            let struck = Struck {
                scenario: self.scenario,
                calls: &calls,
                at,
                is_first: false,
            };
            let mut strikes = struck.all();
            if at == self.at {
                // Of one that fails the end comes with its answer too.
                if !struck.gap().contains(&Moment::After) {
                    strikes.push((Strike::Crash(Moment::After), Toll::default()));
                }
                strikes.retain(|(second, _)| can_meet(&self.strike, second));
            }
            pairs.extend(strikes.into_iter().map(|(strike, toll)| Pair {
                first: self,
                at,
                call: calls[at].clone(),
                strike,
                toll,
            }));
        }
        pairs
    }
}

/// A strike after another one.
struct Pair<'a> {
    first: &'a First,
    at: usize,
    call: Call,
    strike: Strike,
    toll: Toll,
}

impl Pair<'_> {
    fn case(&self) -> Case {
        let Self { first, at, call, .. } = self;
        let scenario = first.scenario;
        Case {
            name: format!("{}{:?} at call {at}, {call}", first.name(), self.strike),
            scenario,
            transport: Transport::Direct,
            strikes: vec![(first.at, first.strike.clone()), (*at, self.strike.clone())],
            expected: Expected::of(scenario, [&first.toll, &self.toll, &self.together()]),
        }
    }

    fn are(&self, first: &str, second: &str) -> bool {
        is_act(&self.first.strike, first) && is_act(&self.strike, second)
    }

    /// What the two cost more than each by itself.
    fn together(&self) -> Toll {
        let none = Toll::default().minutes(0);
        // An effect that comes late, or that its answer does not show, and that is then not shown at the one reading that
        // decides, is as good as one later than the settle window. A reset names its base, so that its repeat has no effect;
        // an addition is made twice.
        let is_hidden = is_late(&self.first.strike) || is_stale(&self.first.strike);
        if is_hidden && self.first.call == Call::Cloud(Operation::Add) && is_stale(&self.strike) {
            return none.changes(0..=1).stops("AmbiguousOutcome").may_leave();
        }
        // Two codes of which nothing tells which is whose are a question for a person, and a Secret that is deleted tells of
        // the rotation no more.
        if is_twice(&self.first.strike) && is_act(&self.strike, DELETED) {
            return none.stops("AppCodeAmbiguous");
        }
        // What is left of half a reset is not made whole where nothing tells of the rotation: a person is asked.
        if is_half(&self.first.strike) && is_act(&self.strike, DELETED) {
            return none.changes(-1..=0);
        }
        // Neither Secret nor status tells of a rotation any more: the resource begins anew.
        if self.are(REMADE, DELETED) || self.are(DELETED, REMADE) {
            let none = none.changes(-1..=0);
            return if self.first.scenario.is_beside() {
                none.stops("AppCodeAmbiguous").may_leave()
            } else {
                none
            };
        }
        // Until status tells of the new code nothing does but the Secret, and the process that has made it.
        let is_shown = matches!(
            self.first.call,
            Call::Api {
                verb: Verb::PutStatus,
                ..
            }
        );
        if is_shown && is_successor(&self.first.strike) && is_act(&self.strike, DELETED) {
            return none.stops("CodeNotListed");
        }
        // What came of the change is not known, and nobody comes back for it.
        if is_act(&self.first.strike, GONE) && (is_change(&self.call) || is_successor(&self.strike)) {
            return none.may_leave();
        }
        // From a clock that is late any other one is far ahead, and the schedule may be due by it.
        let is_behind = is_act(&self.first.strike, YEAR_BACK) || is_act(&self.first.strike, MINUTES_BACK);
        if is_behind && self.first.scenario == Scenario::Scheduled && is_of_clock(&self.strike) {
            return none.changes(0..=1).looks(8).calls(60).late(NEXT_CHECK);
        }
        // The schedule is due again in the pass that has just rotated, before status tells of that, and what was asked for then
        // stood on the Secret alone.
        if self.first.scenario == Scenario::Scheduled
            && is_of_clock(&self.first.strike)
            && is_act(&self.strike, DELETED)
        {
            return none.changes(0..=1);
        }
        // Without a Lease who was held up tells what came of its pass by a reading of its own, and nobody looks again before the
        // next check.
        let is_beside = |strike: &Strike| matches!(strike, Strike::Takeover(_, takeover) if takeover.leads_on);
        let is_held_up = is_beside(&self.first.strike) && (is_stale(&self.strike) || is_successor(&self.strike));
        if is_held_up || (is_beside(&self.strike) && is_successor(&self.first.strike)) {
            return none.late(NEXT_CHECK);
        }
        // A former leader that alone knows of the rotation, or which of two codes its call has made, saves that one. The new
        // leader cannot find it and has stopped, so that it goes on from there only after its next check.
        let is_alone = is_act(&self.first.strike, DELETED) || is_twice(&self.first.strike);
        if is_alone && matches!(self.strike, Strike::Takeover(..)) {
            return none.late(NEXT_CHECK + beyond(self.first.scenario));
        }
        // Who comes new, or works beside another one, meets all the conflicts of a lag for itself.
        let strikes = [&self.first.strike, &self.strike];
        let is_lagging = strikes.iter().any(|strike| is_act(strike, LAG_OF_A_MINUTE));
        let is_another = |strike: &&Strike| is_successor(strike) || is_act(strike, REMADE) || is_act(strike, GONE);
        if is_lagging && strikes.iter().any(is_another) {
            return none.calls(60).looks(6);
        }
        none
    }
}

fn is_act(strike: &Strike, name: &str) -> bool {
    matches!(strike, Strike::Act(_, act) if act.name == name)
}

fn is_of_clock(strike: &Strike) -> bool {
    matches!(strike, Strike::Act(_, act) if act.name.starts_with("the clock jumps"))
}

/// Whether another process comes after it.
fn is_successor(strike: &Strike) -> bool {
    matches!(strike, Strike::Crash(_) | Strike::Stop(_) | Strike::Takeover(..))
}

fn is_late(strike: &Strike) -> bool {
    matches!(strike, Strike::Cloud(fault) if matches!(fault.kind, FaultKind::Late { .. }))
}

fn is_twice(strike: &Strike) -> bool {
    matches!(strike, Strike::Cloud(fault) if matches!(fault.kind, FaultKind::Duplicate { .. }))
}

fn is_half(strike: &Strike) -> bool {
    matches!(strike, Strike::Cloud(fault) if matches!(fault.kind, FaultKind::HalfReset { .. }))
}

fn is_stale(strike: &Strike) -> bool {
    matches!(strike, Strike::Cloud(fault) if matches!(fault.kind, FaultKind::Stale { .. }))
}

/// Which of many are tried.
#[derive(Clone, Copy)]
enum Share {
    Sample,
    /// One of so many first strikes, and after each one of so many second ones.
    OneIn(usize, usize),
    /// After each first strike one of so many second ones, from this one on: all parts together are every pair.
    Part(usize, usize),
}

impl Share {
    fn from_env() -> Self {
        match std::env::var("EXPLORE_PAIRS").as_deref() {
            Ok("all") => Self::OneIn(1, 1),
            Ok(text) if text.contains('/') => {
                let (part, many) = text.split_once('/').unwrap();
                let (part, many): (usize, usize) = (part.parse().unwrap(), many.parse().unwrap());
                assert!((1..=many).contains(&part), "there is no part {part} of {many}");
                Self::Part(part - 1, many)
            }
            Ok(text) => {
                // Each first strike costs a run by itself.
                let many: usize = text.parse().unwrap();
                let firsts = many.isqrt().max(1);
                Self::OneIn(firsts, many / firsts)
            }
            Err(_) => Self::Sample,
        }
    }
}

/// So many numbers below `len`, spread evenly whatever the period of what they number; the same ones each time.
fn spread(len: usize, count: usize, from: usize) -> Vec<usize> {
    let count = count.min(len);
    // By the golden ratio; a stride that shares no factor with the length meets each number once.
    let mut stride = (len * 618 / 1000).max(1);
    while gcd(stride, len) > 1 {
        stride += 1;
    }
    (0..count).map(|number| (from + number * stride) % len).collect()
}

fn gcd(one: usize, other: usize) -> usize {
    if other == 0 { one } else { gcd(other, one % other) }
}

/// What has been done so far, for who waits.
struct Progress {
    began: Instant,
    now_and_then: NowAndThen,
    firsts: AtomicUsize,
    pairs: AtomicUsize,
    tried: AtomicUsize,
    failed: Mutex<Vec<String>>,
}

impl Progress {
    fn begin() -> Self {
        Self {
            began: Instant::now(),
            now_and_then: NowAndThen::begin(),
            firsts: AtomicUsize::default(),
            pairs: AtomicUsize::default(),
            tried: AtomicUsize::default(),
            failed: Mutex::default(),
        }
    }

    fn run(&self, case: &Case) {
        let outcome = catch_unwind(AssertUnwindSafe(|| case.run()));
        self.tried.fetch_add(1, Ordering::Relaxed);
        let why = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(why)) => why,
            Err(_) => format!("{}: the test itself broke", case.name),
        };
        println!("failed: {}", why.lines().take(4).collect::<Vec<_>>().join("\n"));
        self.failed.lock().unwrap().push(why);
    }

    fn tell(&self, what: &str) {
        let (firsts, pairs) = (self.firsts.load(Ordering::Relaxed), self.pairs.load(Ordering::Relaxed));
        let (tried, failed) = (self.tried.load(Ordering::Relaxed), self.failed.lock().unwrap().len());
        println!(
            "{what}: {tried} tried of {pairs} pairs, with {firsts} first strikes; {failed} failed; {:?}",
            self.began.elapsed()
        );
    }
}

/// Plays the pair of this name again.
fn explore_one(scenario: Scenario, name: &str, progress: &Progress) {
    let firsts = First::all(scenario);
    for first in firsts.iter().filter(|first| name.starts_with(&first.name())) {
        let cases = first.pairs().into_iter().map(|pair| pair.case());
        cases
            .filter(|case| case.name == name)
            .for_each(|case| progress.run(&case));
    }
}

/// Runs the pairs of a scenario that are to be run.
fn explore(scenario: Scenario, share: Share, progress: &Progress) {
    let firsts = First::all(scenario);
    let chosen = match share {
        Share::OneIn(many, _) => (0..firsts.len()).step_by(many).collect::<Vec<_>>(),
        Share::Part(..) => (0..firsts.len()).collect(),
        Share::Sample => {
            let change = firsts.iter().position(|first| is_change(&first.call));
            let at = change.map_or(0, |place| firsts[place].at);
            let near: Vec<usize> = (0..firsts.len())
                .filter(|first| (at..=at + 1).contains(&firsts[*first].at))
                .collect();
            let is_before = |first: &usize| beside(&firsts[*first].strike) == Some(Moment::Before);
            let before: Vec<usize> = near.iter().copied().filter(is_before).collect();
            let [many, open, meeting] = SAMPLED;
            let picked = |list: &[usize], count, from| {
                let places = spread(list.len(), count, from).into_iter();
                places.map(|place| list[place]).collect::<Vec<_>>()
            };
            let any = spread(firsts.len(), many, 0);
            [any, picked(&near, open, 1), picked(&before, meeting, 2)].concat()
        }
    };
    let what = format!("{scenario:?}, {} of {} first strikes", chosen.len(), firsts.len());
    let is_one_call = std::env::var_os("EXPLORE_ONE_CALL").is_some();
    on_all_cores(AT_ONCE, chosen.len(), |piece| {
        let place = chosen[piece];
        let mut pairs = firsts[place].pairs();
        if is_one_call {
            pairs.retain(|pair| pair.at == firsts[place].at);
        }
        let wanted = match share {
            Share::OneIn(_, many) => (place % many..pairs.len()).step_by(many).collect(),
            // Beginning elsewhere after each first strike, so that a part has something of every kind.
            Share::Part(part, many) => ((place + part) % many..pairs.len()).step_by(many).collect(),
            Share::Sample => {
                let met = pairs.iter().filter(|pair| pair.at == firsts[place].at).count();
                let later = spread(pairs.len() - met, SECONDS[1], place).into_iter();
                let same = spread(met, SECONDS[0], place).into_iter();
                same.chain(later.map(|number| met + number)).collect::<Vec<_>>()
            }
        };
        progress.firsts.fetch_add(1, Ordering::Relaxed);
        progress.pairs.fetch_add(pairs.len(), Ordering::Relaxed);
        for number in wanted {
            progress.run(&pairs[number].case());
            progress.now_and_then.tell(|| progress.tell(&what));
        }
    });
    progress.tell(&what);
}

#[test]
fn a_second_fault_at_any_later_call_costs_no_code_and_no_change_that_neither_explains() {
    let only = std::env::var("EXPLORE_SCENARIO").ok();
    let progress = Progress::begin();
    let one = std::env::var("EXPLORE_PAIR").ok();
    for scenario in Scenario::EVERY {
        let name = format!("{scenario:?}");
        if let Some(one) = &one {
            if one.starts_with(&format!("{name}: ")) {
                explore_one(scenario, one, &progress);
            }
        } else if only.as_ref().is_none_or(|only| *only == name) {
            explore(scenario, Share::from_env(), &progress);
        }
    }
    progress.tell("all pairs");
    let is_found = one.is_none() || progress.tried.load(Ordering::Relaxed) > 0;
    assert!(is_found, "there is no pair of that name");
    let failed = progress.failed.into_inner().unwrap();
    let told = failed.iter().take(MOST_TOLD).cloned().collect::<Vec<_>>().join("\n\n");
    assert!(failed.is_empty(), "{} failed:\n\n{told}", failed.len());
}
