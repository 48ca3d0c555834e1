//! A story: the world it plays in and what goes wrong, both from one seed.

use std::fmt;
use std::time::Duration;

use appcode_operator::verification::Probe;
use cloud_simulator::{Body, Fault, Half, Lag, LostAnswer, Operation, Reply, Which};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::people::Deed;
use crate::support::script::{ApiFault, Call, Hit, Moment, Strike};

/// What a resource's spec says of the code to start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Nothing.
    No,
    /// It stands in the resource.
    Inline,
    /// It stands in a Secret.
    InSecret,
}

/// Who goes on where several wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Who came first.
    AsTheyCome,
    /// Mostly who went on before; of so many calls one goes to somebody else.
    OneIn(u32),
}

/// The world before anything goes wrong.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is one free choice")]
pub struct Setting {
    /// Codes of the app.
    pub codes: usize,
    /// Resources of the app, one for each code as far as they go.
    pub resources: usize,
    pub named: Named,
    pub is_immediate: bool,
    /// Whether there is a schedule, of two days.
    pub is_scheduled: bool,
    /// Whether the codes were taken over in peace, and a trigger is changed now.
    pub is_settled: bool,
    /// Operators that are active together. Two work without a Lease; one has it, and may hand it over or lose it.
    pub operators: usize,
    pub order: Order,
    /// With `Overlap`: seconds of the grace period.
    pub grace: Option<u64>,
    /// Whether two workloads are restarted with a new code.
    pub is_restarting: bool,
    /// Whether a new code is tried.
    pub is_verified: bool,
    /// Seconds before workloads are restarted.
    pub delay: u64,
    /// Whether more than the code stands on the Secret, which goes with its resource.
    pub is_dressed: bool,
}

/// Something that goes wrong, or that somebody does.
#[derive(Clone, Debug)]
pub enum What {
    Strike(Strike),
    Deed(Moment, Deed),
}

/// It waits for the first call, from a number on, that it fits.
#[derive(Clone, Debug)]
pub struct Event {
    pub at: usize,
    pub what: What,
    /// How many calls it strikes.
    pub times: usize,
}

#[derive(Clone, Debug)]
pub struct Story {
    /// Decides the order of calls.
    pub seed: u64,
    pub setting: Setting,
    pub events: Vec<Event>,
    /// Changes of the app at most, where that is known better than by rule.
    pub most_changes: Option<usize>,
}

/// Calls among which events are spread: as many as one rotation makes, or two.
const CALLS: [usize; 2] = [16, 40];

impl Story {
    pub fn from_seed(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let setting = Setting::draw(&mut random);
        let count = *[1, 1, 2, 2, 2, 3, 3, 4].choose(&mut random).unwrap();
        let mut events: Vec<Event> = (0..count).map(|_| Event::draw(&mut random, &setting)).collect();
        // Drawn apart, so that what was drawn above does not change with it.
        let mut beyond = StdRng::seed_from_u64(!seed);
        let setting = setting.beyond(&mut beyond);
        if setting.is_beyond() {
            let count = *[0, 1, 1, 2].choose(&mut beyond).unwrap();
            events.extend((0..count).map(|_| Event::draw_beyond(&mut beyond, &setting)));
        }
        let mut dress = StdRng::seed_from_u64(seed.rotate_left(32) ^ 1);
        let setting = setting.dressed(&mut dress);
        if setting.is_dressed {
            let count = *[0, 1, 1, 2].choose(&mut dress).unwrap();
            events.extend((0..count).map(|_| Event::draw_dress(&mut dress, &setting)));
        }
        events.sort_by_key(|event| event.at);
        Self {
            seed,
            setting,
            events,
            most_changes: None,
        }
    }

    /// The story as it came about: strikes that found no call are left out.
    pub fn as_it_went(&self, hits: &[Hit]) -> Self {
        let mut went = self.clone();
        for (id, event) in went.events.iter_mut().enumerate() {
            if matches!(event.what, What::Strike(_)) {
                event.times = hits.iter().filter(|hit| hit.id == id).count();
            }
        }
        went.events.retain(|event| event.times > 0);
        let late = hits.iter().filter_map(|hit| self.landing(hit));
        went.events.extend(late);
        // What is under way meanwhile lands late as well.
        let long = |event: &&Event| matches!(event.what, What::Deed(_, Deed::Pass(seconds)) if seconds >= 120);
        if let Some(event) = self.events.iter().find(long).filter(|_| self.setting.operators > 1) {
            went.events.push(Event {
                what: What::Strike(Strike::Cloud(late_addition(Duration::from_secs(3_600)))),
                ..event.clone()
            });
        }
        went
    }

    /// What a process that stands still before the effect of a call comes to, where others work meanwhile: that call is late.
    fn landing(&self, hit: &Hit) -> Option<Event> {
        let Call::Cloud(operation) = hit.call else { return None };
        let is_replaced = self.deeds().any(|deed| matches!(deed, Deed::Restart(_)));
        let are_several = self.setting.operators > 1 || is_replaced;
        let time = match &self.events[hit.id].what {
            What::Strike(Strike::Lapse(Moment::Before, time)) => *time,
            What::Strike(Strike::Pause(Moment::Before, time)) if are_several => *time,
            _ => return None,
        };
        let passed = self.deeds().map(|deed| match deed {
            Deed::Pass(seconds) => *seconds,
            _ => 0,
        });
        let time = time + Duration::from_secs(passed.sum());
        let late = Fault::late(Some(time), LostAnswer::Cut).at(operation);
        Some(Event {
            at: hit.number,
            what: What::Strike(Strike::Cloud(late)),
            times: 1,
        })
    }

    pub fn strikes(&self) -> impl Iterator<Item = &Strike> {
        self.events.iter().filter_map(|event| match &event.what {
            What::Strike(strike) => Some(strike),
            What::Deed(..) => None,
        })
    }

    pub fn faults(&self) -> impl Iterator<Item = &Fault> {
        self.strikes().filter_map(|strike| match strike {
            Strike::Cloud(fault) => Some(fault),
            _ => None,
        })
    }

    /// Whether somebody changes workloads so that they lose the mark of a restart.
    pub fn is_meddled(&self) -> bool {
        self.deeds()
            .any(|deed| matches!(deed, Deed::RollBack(_) | Deed::DeleteWorkload(_)))
    }

    pub fn deeds(&self) -> impl Iterator<Item = &Deed> {
        self.events.iter().filter_map(|event| match &event.what {
            What::Deed(_, deed) => Some(deed),
            What::Strike(_) => None,
        })
    }
}

impl Setting {
    /// One code, taken over, one operator; a trigger was just changed.
    pub const ONE_CODE: Self = Self {
        codes: 1,
        resources: 1,
        named: Named::No,
        is_immediate: false,
        is_scheduled: false,
        is_settled: true,
        operators: 1,
        order: Order::AsTheyCome,
        grace: None,
        is_restarting: false,
        is_verified: false,
        delay: 0,
        is_dressed: false,
    };

    fn draw(random: &mut StdRng) -> Self {
        let resources = *[1, 1, 1, 1, 2].choose(random).unwrap();
        let codes = if resources == 1 {
            *[0, 1, 1, 1, 1, 2, 3].choose(random).unwrap()
        } else {
            *[1, 2, 2, 3].choose(random).unwrap()
        };
        let named: &[Named] = match codes {
            0 => &[Named::No],
            1 => &[Named::No, Named::No, Named::Inline, Named::InSecret],
            _ => &[Named::No, Named::Inline, Named::InSecret, Named::InSecret],
        };
        Self {
            codes,
            resources,
            named: *named.choose(random).unwrap(),
            is_immediate: random.random_ratio(1, 8),
            is_scheduled: random.random_ratio(1, 5),
            is_settled: random.random_ratio(3, 5),
            operators: *[1, 2].choose(random).unwrap(),
            order: *[Order::AsTheyCome, Order::OneIn(2), Order::OneIn(6), Order::OneIn(20)]
                .choose(random)
                .unwrap(),
            grace: None,
            is_restarting: false,
            is_verified: false,
            delay: 0,
            is_dressed: false,
        }
    }

    /// In every second world more is done with a new code than to write it down.
    fn beyond(self, random: &mut StdRng) -> Self {
        let grace = [None, Some(0), Some(60), Some(600), Some(1_800), Some(86_400)];
        let is_beyond = random.random_ratio(1, 2);
        Self {
            grace: grace.choose(random).copied().flatten().filter(|_| is_beyond),
            is_restarting: random.random_ratio(1, 2) && is_beyond,
            is_verified: random.random_ratio(1, 2) && is_beyond,
            ..self
        }
    }

    /// In every third world the Secret is more than a code, and where workloads are restarted that may come later.
    fn dressed(self, random: &mut StdRng) -> Self {
        let delay = *[0, 0, 30, 400].choose(random).unwrap();
        Self {
            delay: if self.is_restarting { delay } else { 0 },
            is_dressed: random.random_ratio(1, 3),
            ..self
        }
    }

    fn is_beyond(&self) -> bool {
        self.grace.is_some() || self.is_restarting || self.is_verified
    }
}

impl Event {
    /// What can strike or happen only where a code has consumers, or one before it that still works.
    fn draw_beyond(random: &mut StdRng, setting: &Setting) -> Self {
        let at = random.random_range(0..60);
        let moment = *[Moment::Before, Moment::After].choose(random).unwrap();
        let mut times = 1;
        let what = match random.random_range(0..8) {
            0 | 1 => {
                times = *[1, 1, 2, 8].choose(random).unwrap();
                let operation = *[Operation::Add, Operation::Delete, Operation::Delete]
                    .choose(random)
                    .unwrap();
                return Self::of_the_cloud(random, at, operation, times);
            }
            2 => {
                times = *[1, 3, 30].choose(random).unwrap();
                What::Strike(Strike::Probe(probe(random)))
            }
            _ => What::Deed(moment, Deed::draw_beyond(random, setting)),
        };
        Self { at, what, times }
    }

    /// There is one change in a rotation, so that one of those is not looked for from some call on.
    fn of_the_cloud(random: &mut StdRng, at: usize, operation: Operation, times: usize) -> Self {
        Self {
            at: if operation == Operation::Show { at } else { 0 },
            what: What::Strike(Strike::Cloud(cloud_fault(random, operation))),
            times,
        }
    }

    /// Somebody edits what stands on the Secret besides the code.
    fn draw_dress(random: &mut StdRng, setting: &Setting) -> Self {
        let moment = *[Moment::Before, Moment::After].choose(random).unwrap();
        Self {
            at: random.random_range(0..60),
            what: What::Deed(moment, Deed::draw_dress(random, setting)),
            times: 1,
        }
    }

    fn draw(random: &mut StdRng, setting: &Setting) -> Self {
        let calls = *CALLS.choose(random).unwrap();
        let at = random.random_range(0..calls);
        let moment = *[Moment::Before, Moment::After].choose(random).unwrap();
        let mut times = 1;
        let what = match random.random_range(0..20) {
            0..=2 => What::Strike(Strike::Crash(moment)),
            3..=5 => {
                times = *[1, 1, 1, 3, 12].choose(random).unwrap();
                match api_fault(random) {
                    ApiFault::Stale => What::Strike(Strike::Api(Moment::Before, ApiFault::Stale)),
                    fault => What::Strike(Strike::Api(moment, fault)),
                }
            }
            6..=11 => {
                times = *[1, 1, 1, 1, 2, 8].choose(random).unwrap();
                // What strikes a change is rarer by itself and matters more.
                let operation = *[Operation::Show, Operation::Reset, Operation::Reset, Operation::Add]
                    .choose(random)
                    .unwrap();
                return Self::of_the_cloud(random, at, operation, times);
            }
            12 => {
                let seconds = *[1, 10, 150, 1_000].choose(random).unwrap();
                What::Strike(Strike::Pause(moment, Duration::from_secs(seconds)))
            }
            13 if setting.operators == 1 => {
                let seconds = *[40, 150, 1_000].choose(random).unwrap();
                What::Strike(Strike::Lapse(moment, Duration::from_secs(seconds)))
            }
            _ => What::Deed(moment, Deed::draw(random, setting)),
        };
        Self { at, what, times }
    }
}

/// An addition whose answer is lost and that is made only after so long.
fn late_addition(after: Duration) -> Fault {
    Fault::late(Some(after), LostAnswer::Cut).at(Operation::Add)
}

fn api_fault(random: &mut StdRng) -> ApiFault {
    let status = *[500, 503, 504, 429, 409, 403, 422].choose(random).unwrap();
    *[
        ApiFault::Status(status),
        ApiFault::Status(status),
        ApiFault::Cut,
        ApiFault::Stale,
    ]
    .choose(random)
    .unwrap()
}

fn probe(random: &mut StdRng) -> Probe {
    let probes = [
        Probe::Refused { status: 401 },
        Probe::Throttled { retry_after: None },
        Probe::Unexpected { status: 503 },
        Probe::Unreachable("no route".into()),
    ];
    probes.choose(random).unwrap().clone()
}

fn cloud_fault(random: &mut StdRng, operation: Operation) -> Fault {
    let status = *[302, 400, 401, 403, 404, 408, 409, 429, 500, 502, 503, 504]
        .choose(random)
        .unwrap();
    let lost = [
        LostAnswer::Cut,
        LostAnswer::Reply(Reply::from(504)),
        LostAnswer::Reply(Reply::from(500)),
    ];
    let lost = lost.choose(random).unwrap().clone();
    let seconds = *[1, 30, 60, 110, 110, 300, 1800].choose(random).unwrap();
    let is_change = operation != Operation::Show;
    let fault = match random.random_range(0..16) {
        0 | 1 => Fault::status_before(status),
        2 | 3 => Fault::status_after(status),
        4 => Fault::throttle(
            [None, Some("7"), Some("99999999"), Some("-1")]
                .choose(random)
                .copied()
                .unwrap(),
        ),
        5 => Fault::cut_before(),
        6 => Fault::cut_after(),
        7 => Fault::cut_in_answer(),
        8 => Fault::body(body(random)),
        9 => Fault::masked(),
        10 => Fault::stale(Lag::OneChange),
        11 => Fault::stale(Lag::Millis(60_000)),
        12 if is_change => Fault::duplicate(*[Which::First, Which::Second].choose(random).unwrap()),
        13 if operation == Operation::Reset => {
            Fault::half_reset(*[Half::NoneMade, Half::BothPresent].choose(random).unwrap())
        }
        _ if is_change => Fault::late(Some(Duration::from_secs(seconds)), lost),
        _ => Fault::status_before(500),
    };
    fault.at(operation).once()
}

fn body(random: &mut StdRng) -> Body {
    let text = |text: &str| Body::Text(text.into());
    let bodies = [
        Body::Html,
        Body::Empty,
        Body::Garbage,
        Body::HalfOfIt,
        text("{}"),
        text(r#"{"app":null}"#),
        text(r#"{"app":{"app_id":"of-somebody-else","app_codes":["a-code-of-somebody-else"]}}"#),
    ];
    bodies.choose(random).unwrap().clone()
}

// ── in words ───────────────────────────────────────────────────────────────────────────────────────────────────────

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            codes,
            resources,
            operators,
            ..
        } = self;
        write!(
            f,
            "{resources} resource(s) of an app with {codes} code(s), {operators} active operator(s)"
        )?;
        match self.named {
            Named::No => {}
            Named::Inline => write!(f, "; spec names the code")?,
            Named::InSecret => write!(f, "; spec names a Secret with the code")?,
        }
        if self.is_immediate {
            write!(f, "; rotated at first sight")?;
        }
        if self.is_scheduled {
            write!(f, "; rotated every two days")?;
        }
        if self.is_settled {
            write!(f, "; all is taken over and at rest, and now a trigger is changed")?;
        }
        if let Some(grace) = self.grace {
            write!(
                f,
                "; a code is put beside the one before, which lives {grace} seconds more"
            )?;
        }
        if self.is_restarting {
            write!(f, "; two workloads are restarted")?;
        }
        if self.is_verified {
            write!(f, "; new codes are tried")?;
        }
        if self.delay > 0 {
            write!(f, "; restarts come {} seconds later", self.delay)?;
        }
        if self.is_dressed {
            write!(f, "; the Secret has a template and goes with its resource")?;
        }
        match self.order {
            Order::AsTheyCome => Ok(()),
            Order::OneIn(calls) => write!(f, "; of {calls} calls one goes to whoever else waits"),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let around = |moment: &Moment| {
            if *moment == Moment::Before {
                "before it has an effect"
            } else {
                "after its effect"
            }
        };
        match self {
            Self::Strike(Strike::Crash(moment)) => write!(f, "the process is killed {}", around(moment)),
            Self::Strike(Strike::Pause(moment, time)) => {
                write!(f, "the process stands still for {time:?} {}", around(moment))
            }
            Self::Strike(Strike::Lapse(moment, time)) => {
                write!(
                    f,
                    "the process stands still for {time:?} {} and loses its Lease",
                    around(moment)
                )
            }
            Self::Strike(Strike::Api(_, ApiFault::Stale)) => {
                write!(f, "what is read is what was before the last change")
            }
            Self::Strike(Strike::Api(moment, ApiFault::Status(status))) => {
                write!(f, "the API server answers {status} {}", around(moment))
            }
            Self::Strike(Strike::Api(moment, _)) => write!(f, "the API server's answer is lost {}", around(moment)),
            Self::Strike(Strike::Cloud(fault)) => write!(f, "the cloud fails {:?}: {:?}", fault.at, fault.kind),
            Self::Strike(Strike::Probe(probe)) => write!(f, "a try of the code ends as {probe:?}"),
            Self::Strike(Strike::Act(_, act)) => write!(f, "{act:?}"),
            Self::Strike(Strike::Stop(moment)) => write!(f, "the process is asked to end {}", around(moment)),
            Self::Strike(Strike::Takeover(moment, _)) => write!(f, "another process takes over {}", around(moment)),
            Self::Deed(Moment::Before, deed) => write!(f, "{deed} just before"),
            Self::Deed(Moment::After, deed) => write!(f, "{deed} just after"),
        }
    }
}
