//! The guard in front of a scripted cloud, on a clock that moves only when somebody sleeps.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::FutureExt;
use jiff::Timestamp;
use proptest::prelude::*;
use tokio::sync::Semaphore;

use super::super::tests::target;
use super::*;
use crate::metrics::{Format, Levels};

/// Time passes when everybody sleeps, up to the first who wakes.
#[derive(Default)]
struct LeapingClock(Mutex<Night>);

#[derive(Default)]
struct Night {
    now: Duration,
    sleepers: std::collections::BTreeSet<(Duration, u64)>,
    number: u64,
}

impl LeapingClock {
    fn advance(&self, time: Duration) {
        self.0.lock().unwrap().now += time;
    }
}

#[async_trait]
impl Clock for LeapingClock {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn uptime(&self) -> Duration {
        self.0.lock().unwrap().now
    }

    async fn sleep(&self, time: Duration) {
        let me = {
            let mut night = self.0.lock().unwrap();
            night.number += 1;
            let me = (night.now + time, night.number);
            night.sleepers.insert(me);
            me
        };
        let mut quiet = 0;
        loop {
            {
                let mut night = self.0.lock().unwrap();
                let is_first = night.sleepers.first() == Some(&me);
                // Everybody else who can go on does so before time passes.
                quiet = if is_first { quiet + 1 } else { 0 };
                if is_first && quiet > 8 {
                    night.now = night.now.max(me.0);
                }
                if night.now >= me.0 {
                    night.sleepers.remove(&me);
                    return;
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Answers from a list, `Ok` when it is empty, and counts.
struct Cloud {
    answers: Mutex<VecDeque<CloudErrorKind>>,
    calls: AtomicUsize,
    /// Calls need a permit to end.
    gate: Semaphore,
}

impl Cloud {
    async fn call(&self) -> Result<App, CloudError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let _permit = self.gate.acquire().await.unwrap();
        match self.answers.lock().unwrap().pop_front() {
            Some(kind) => Err(own_error(kind, "scripted")),
            None => Ok(App {
                name: None,
                remark: None,
                app_type: None,
                owner: None,
                caller: None,
                updated_at: None,
                codes: Vec::new(),
                masked: false,
                request_id: None,
            }),
        }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl AppCodes for Cloud {
    async fn show_app(&self, _: &Target) -> Result<App, CloudError> {
        self.call().await
    }

    async fn reset_code(&self, _: &Target, _: &AppCode, _: &Echo) -> Result<App, CloudError> {
        self.call().await
    }

    async fn add_code(&self, _: &Target, _: &Echo) -> Result<App, CloudError> {
        self.call().await
    }

    async fn delete_code(&self, _: &Target, _: &AppCode) -> Result<App, CloudError> {
        self.call().await
    }
}

struct World {
    clock: Arc<LeapingClock>,
    cloud: Arc<Cloud>,
    guard: GuardedAppCodes,
}

fn world_with(answers: &[CloudErrorKind], options: GuardOptions) -> World {
    let clock = Arc::new(LeapingClock::default());
    let answers = Mutex::new(answers.iter().cloned().collect());
    let cloud = Arc::new(Cloud {
        answers,
        calls: AtomicUsize::new(0),
        gate: Semaphore::new(1000),
    });
    let guard = GuardedAppCodes::new(
        Arc::clone(&cloud) as _,
        Arc::clone(&clock) as _,
        options,
        Arc::default(),
    );
    World { clock, cloud, guard }
}

fn world(answers: &[CloudErrorKind]) -> World {
    world_with(answers, GuardOptions::default())
}

fn caller(source: &str, version: &str) -> Target {
    let mut target = target();
    target.caller.source = source.into();
    target.caller.version = version.into();
    target
}

/// Another app of the same credentials.
fn of_app(number: u32) -> Target {
    let mut target = target();
    target.app.app_id = crate::ids::AppId::parse(format!("app-{number}")).unwrap();
    target
}

fn kind<T>(outcome: Result<T, CloudError>) -> CloudErrorKind {
    outcome.err().unwrap().kind
}

const SECOND: Duration = Duration::from_secs(1);

fn slow() -> GuardOptions {
    GuardOptions {
        per_caller_rate: 1.0,
        burst: 2,
        ..GuardOptions::default()
    }
}

#[tokio::test]
async fn calls_come_at_the_callers_rate_after_a_burst() {
    let world = world_with(&[], slow());
    for expected in [0, 0, 1, 2, 3] {
        world.guard.show_app(&target()).await.unwrap();
        assert_eq!(world.clock.uptime(), expected * SECOND);
    }
    world.guard.show_app(&caller("other", "1")).await.unwrap();
    assert_eq!(world.clock.uptime(), 3 * SECOND, "another caller has its own turn");
}

#[tokio::test]
async fn all_callers_share_one_rate() {
    let options = GuardOptions {
        global_rate: 2.0,
        burst: 1,
        max_wait: 100 * SECOND,
        ..GuardOptions::default()
    };
    let world = world_with(&[], options);
    for number in 0..30 {
        world.guard.show_app(&caller(&number.to_string(), "1")).await.unwrap();
    }
    assert_eq!(world.clock.uptime(), 10 * SECOND, "ten at once, then two a second");
}

#[tokio::test]
async fn a_turn_that_is_far_off_is_told_instead_of_waited_for() {
    let options = GuardOptions {
        max_wait: Duration::ZERO,
        ..slow()
    };
    let world = world_with(&[], options);
    for _ in 0..2 {
        world.guard.show_app(&target()).await.unwrap();
    }
    // One after another, and with a gap for somebody's change now and then: they take no turn by that.
    for (app, millis) in [(1, 1000), (2, 1250), (3, 2500)] {
        let kind = kind(world.guard.show_app(&of_app(app)).await);
        let after = Duration::from_millis(millis);
        assert_eq!(kind, CloudErrorKind::Postponed { after });
    }
    assert_eq!(world.guard.backlog(Fleet::default()), Duration::from_millis(3750));
    assert_eq!(
        world.guard.backlog(Fleet {
            of_caller: 1,
            whole: 600
        }),
        Duration::from_secs(60),
        "ten a second over all"
    );
    assert_eq!((world.cloud.calls(), world.clock.uptime()), (2, Duration::ZERO));
}

/// Samples of a guard's metrics that are about whom it lets wait, without those that are 0.
fn limited(guard: &GuardedAppCodes) -> Vec<String> {
    let text = guard.metrics.encode(Format::Text, Levels::default());
    let is_ours = |line: &&str| {
        let is_count = line.starts_with("appcode_postponed_calls_total") || line.contains("_sum ");
        is_count && !line.contains("queue") && !line.ends_with(" 0") && !line.ends_with(" 0.0")
    };
    text.lines().filter(is_ours).map(str::to_owned).collect()
}

#[tokio::test]
async fn who_waits_and_who_is_put_off_is_counted_by_the_limit() {
    let world = world_with(
        &[],
        GuardOptions {
            max_wait: SECOND,
            ..slow()
        },
    );
    for _ in 0..3 {
        world.guard.show_app(&target()).await.unwrap();
    }
    // The next turns are one and two seconds off.
    let target = target();
    let (first, second) = tokio::join!(world.guard.show_app(&target), world.guard.show_app(&target));
    assert!(first.is_ok() && second.is_err());
    assert_eq!(
        limited(&world.guard),
        [
            "appcode_limiter_wait_seconds_sum 2.0",
            r#"appcode_postponed_calls_total{limit="caller_rate"} 1"#,
            "appcode_postponement_seconds_sum 2.0",
        ]
    );

    let all = GuardOptions {
        global_rate: 1.0,
        burst: 1,
        max_wait: Duration::ZERO,
        ..GuardOptions::default()
    };
    let world = world_with(&[], all);
    for number in 0..10 {
        world.guard.show_app(&caller(&number.to_string(), "1")).await.unwrap();
    }
    world.guard.show_app(&caller("late", "1")).await.unwrap_err();
    assert_eq!(
        limited(&world.guard)[0],
        r#"appcode_postponed_calls_total{limit="total_rate"} 1"#
    );

    let world = world_with(&[CloudErrorKind::CredentialsRejected], GuardOptions::default());
    for _ in 0..2 {
        world.guard.show_app(&target).await.unwrap_err();
    }
    assert_eq!(
        limited(&world.guard),
        [
            r#"appcode_postponed_calls_total{limit="rejected"} 1"#,
            "appcode_postponement_seconds_sum 330.0",
        ]
    );
}

/// So many resources with the same credentials.
fn fleet(many: usize) -> Fleet {
    Fleet {
        of_caller: many,
        whole: many,
    }
}

/// What an operator does that comes back after months: every resource is read, admitted and changed, by as many workers
/// as it has.
#[tokio::test]
async fn ten_thousand_that_are_overdue_take_turns_and_the_end_is_told_all_along() {
    const MANY: u32 = 10_000;
    const WORKERS: usize = 16;
    #[derive(Default)]
    struct Day {
        due: std::collections::BTreeSet<(Duration, u32)>,
        changed: u32,
        postponed: u32,
        told: Vec<(Duration, Duration)>,
    }
    let world = world(&[]);
    let day = Mutex::new(Day {
        due: (0..MANY).map(|number| (Duration::ZERO, number)).collect(),
        ..Day::default()
    });
    let worker = async || {
        loop {
            let now = world.clock.uptime();
            let next = {
                let mut day = day.lock().unwrap();
                if day.changed == MANY {
                    return;
                }
                let first = day.due.first().copied();
                match first {
                    Some((at, _)) if at <= now => day.due.pop_first().ok_or(None),
                    first => Err(first),
                }
            };
            let number = match next {
                Ok((_, number)) => number,
                Err(first) => {
                    let wait = first.map_or(SECOND, |(at, _)| at.saturating_sub(now));
                    world.clock.sleep(wait.min(SECOND)).await;
                    continue;
                }
            };
            let pass = async {
                let target = of_app(number);
                world.guard.show_app(&target).await?;
                world.guard.admit(&target).await
            };
            let outcome = pass.await.map_err(|error| error.kind);
            let now = world.clock.uptime();
            let mut day = day.lock().unwrap();
            match outcome {
                Ok(()) => day.changed += 1,
                Err(CloudErrorKind::Postponed { after }) => {
                    day.postponed += 1;
                    day.due.insert((now + after, number));
                }
                Err(kind) => panic!("{kind:?}"),
            }
            if day.told.len() < 9 && u32::try_from(day.told.len() + 1).unwrap() * (MANY / 10) <= day.changed {
                let waiting = day.due.iter().filter(|(at, _)| *at <= now).count();
                day.told.push((now, now + world.guard.backlog(fleet(waiting))));
            }
        }
    };
    futures::future::join_all((0..WORKERS).map(|_| worker())).await;
    let day = day.into_inner().unwrap();
    let took = world.clock.uptime().as_secs_f64();
    let calls = f64::from(u32::try_from(world.cloud.calls()).unwrap());
    let facts = format!(
        "{calls} readings, {} postponed, {took} s, told {:?}",
        day.postponed, day.told
    );
    assert!(
        (calls + f64::from(MANY)) / took <= GuardOptions::default().per_caller_rate * 1.001,
        "{facts}"
    );
    assert!(day.postponed > MANY / 2, "there is a line: {facts}");
    // No more than a tenth of the readings was in vain.
    assert!(calls < 1.1 * f64::from(MANY), "{facts}");
    for (_, end) in &day.told {
        assert!((0.6..1.6).contains(&(end.as_secs_f64() / took)), "{facts}");
    }
}

#[tokio::test]
async fn a_round_over_the_fleet_leaves_half_of_the_rate_to_changes() {
    let guard = world_with(&[], slow()).guard;
    assert_eq!(
        guard.round(fleet(1)),
        2 * SECOND,
        "one a second with the same credentials"
    );
    assert_eq!(
        guard.round(Fleet {
            of_caller: 10,
            whole: 1000
        }),
        200 * SECOND,
        "ten a second over all"
    );
}

#[tokio::test]
async fn admission_takes_the_turn_so_that_the_change_goes_out_at_once() {
    let world = world_with(&[], slow());
    let (target, code) = (target(), AppCode::parse("c").unwrap());
    world.guard.show_app(&target).await.unwrap();
    world.guard.show_app(&target).await.unwrap();
    world.guard.admit(&target).await.unwrap();
    assert_eq!(world.clock.uptime(), SECOND);
    world.guard.reset_code(&target, &code, &Echo::default()).await.unwrap();
    world.guard.add_code(&target, &Echo::default()).await.unwrap();
    assert_eq!(world.clock.uptime(), SECOND);
    assert_eq!(world.cloud.calls(), 4);
}

#[tokio::test]
async fn rejected_credentials_rest_for_more_than_five_minutes() {
    let world = world(&[CloudErrorKind::CredentialsRejected]);
    let (target, code) = (target(), AppCode::parse("c").unwrap());
    assert_eq!(
        kind(world.guard.show_app(&target).await),
        CloudErrorKind::CredentialsRejected
    );
    let rest = CloudErrorKind::LockedOut {
        retry_after: Duration::from_secs(330),
    };
    assert_eq!(kind(world.guard.show_app(&target).await), rest);
    assert_eq!(kind(world.guard.admit(&target).await), rest);
    assert_eq!(
        kind(world.guard.reset_code(&target, &code, &Echo::default()).await),
        rest
    );
    assert_eq!(kind(world.guard.add_code(&target, &Echo::default()).await), rest);
    world.clock.advance(Duration::from_secs(329));
    assert_eq!(
        kind(world.guard.show_app(&target).await),
        CloudErrorKind::LockedOut { retry_after: SECOND }
    );
    assert_eq!(world.cloud.calls(), 1);
    world.clock.advance(SECOND);
    world.guard.show_app(&target).await.unwrap();
    assert_eq!(world.cloud.calls(), 2);
}

#[tokio::test]
async fn new_credentials_are_tried_at_once_and_others_are_not_concerned() {
    let world = world(&[CloudErrorKind::LockedOut { retry_after: SECOND }]);
    assert!(world.guard.show_app(&caller("a", "1")).await.is_err());
    assert!(world.guard.show_app(&caller("a", "1")).await.is_err());
    assert_eq!(world.cloud.calls(), 1);
    world.guard.show_app(&caller("a", "2")).await.unwrap();
    world.guard.show_app(&caller("b", "1")).await.unwrap();
    assert_eq!(world.cloud.calls(), 3);
}

#[tokio::test]
async fn a_longer_lock_is_respected_and_a_shorter_one_stretched() {
    for (asked, rests) in [(1, 330), (960, 960)] {
        let world = world(&[CloudErrorKind::LockedOut {
            retry_after: Duration::from_secs(asked),
        }]);
        assert!(world.guard.show_app(&target()).await.is_err());
        let rest = CloudErrorKind::LockedOut {
            retry_after: Duration::from_secs(rests),
        };
        assert_eq!(kind(world.guard.show_app(&target()).await), rest);
    }
}

#[tokio::test]
async fn a_wrong_password_rests_longer_since_it_locks_a_person() {
    let world = world(&[CloudErrorKind::CredentialsRejected]);
    let mut target = target();
    target.caller.credentials = Credentials::Password {
        domain_name: "d".into(),
        user_name: "u".into(),
        password: "p".into(),
    };
    assert!(world.guard.show_app(&target).await.is_err());
    let CloudErrorKind::LockedOut { retry_after } = kind(world.guard.show_app(&target).await) else {
        panic!()
    };
    assert!(
        retry_after > Duration::from_secs(1800),
        "two tries an hour are below the strictest account's limit of three"
    );
}

#[tokio::test]
async fn unproven_credentials_are_tried_once_however_many_call() {
    let world = world(&[CloudErrorKind::CredentialsRejected]);
    let target = target();
    let call = || world.guard.show_app(&target);
    let all = tokio::join!(call(), call(), call(), call(), call());
    for outcome in [all.0, all.1, all.2, all.3, all.4] {
        assert!(matches!(
            kind(outcome),
            CloudErrorKind::CredentialsRejected | CloudErrorKind::LockedOut { .. }
        ));
    }
    assert_eq!(world.cloud.calls(), 1, "five failures in a row would lock the key");
}

#[tokio::test]
async fn proven_credentials_are_used_by_all_who_waited_and_then_together() {
    let world = world(&[]);
    let target = target();
    let call = || world.guard.show_app(&target);
    let all = tokio::join!(call(), call(), call());
    assert!(all.0.is_ok() && all.1.is_ok() && all.2.is_ok());
    // Each holds its call open now: proven credentials need not wait for one another.
    let permits = world.cloud.gate.acquire_many(1000).await.unwrap();
    let mut calls: Vec<_> = (0..2).map(|_| Box::pin(world.guard.reset_code_of(&target))).collect();
    for call in &mut calls {
        assert!(call.as_mut().now_or_never().is_none());
    }
    assert_eq!(world.cloud.calls(), 5);
    drop(permits);
}

impl GuardedAppCodes {
    async fn reset_code_of(&self, target: &Target) -> Result<App, CloudError> {
        self.reset_code(target, &AppCode::parse("c").unwrap(), &Echo::default())
            .await
    }
}

#[tokio::test]
async fn calls_that_hang_hold_a_few_workers_only() {
    let world = world_with(
        &[],
        GuardOptions {
            per_caller_rate: 100.0,
            burst: 100,
            ..GuardOptions::default()
        },
    );
    world.guard.show_app(&target()).await.unwrap();
    let permits = world.cloud.gate.acquire_many(1000).await.unwrap();
    let target = target();
    let mut hanging: Vec<_> = (0..8).map(|_| Box::pin(world.guard.show_app(&target))).collect();
    for call in &mut hanging {
        assert!(call.as_mut().now_or_never().is_none());
    }
    let refused = kind(world.guard.show_app(&target).await);
    assert!(
        matches!(refused, CloudErrorKind::Postponed { after } if after >= DEFAULT_PAUSE),
        "{refused:?}"
    );
    // Others go on, and so does a change that was begun.
    world.guard.admit(&target).await.unwrap();
    drop(permits);
    world.guard.show_app(&caller("another", "1")).await.unwrap();
    drop(hanging.pop());
    world.guard.show_app(&target).await.unwrap();
}

#[tokio::test]
async fn however_many_credentials_hang_one_worker_is_left() {
    let eager = GuardOptions {
        per_caller_rate: 100.0,
        global_rate: 1000.0,
        burst: 100,
        ..GuardOptions::default()
    };
    for (workers, most) in [(16, vec![8, 4, 2, 1, 0, 0]), (4, vec![2, 1, 0]), (1, vec![1, 1])] {
        let world = world_with(
            &[],
            GuardOptions {
                workers,
                ..eager.clone()
            },
        );
        let targets: Vec<Target> = (0..most.len()).map(|number| caller(&number.to_string(), "1")).collect();
        for target in &targets {
            world.guard.show_app(target).await.unwrap();
        }
        let _gate = world.cloud.gate.acquire_many(1000).await.unwrap();
        let mut hanging = Vec::new();
        for (target, most) in targets.iter().zip(most) {
            for count in 0..=most {
                let mut call = Box::pin(world.guard.show_app(target));
                let is_refused = call.as_mut().now_or_never().is_some();
                assert_eq!(
                    is_refused,
                    count == most,
                    "{workers} workers, reading {count} of {most}"
                );
                hanging.push(call);
            }
        }
    }
}

/// As where two controllers undo each other's edits.
#[tokio::test]
async fn who_comes_back_too_soon_keeps_its_place_in_line() {
    let max_wait = Duration::ZERO;
    let world = world_with(&[], GuardOptions { max_wait, ..slow() });
    let pause = |outcome| match kind(outcome) {
        CloudErrorKind::Postponed { after } => after,
        other => panic!("{other:?}"),
    };
    while world.guard.show_app(&target()).await.is_ok() {}
    let first = pause(world.guard.show_app(&of_app(1)).await);
    for _ in 0..100 {
        world.clock.advance(Duration::from_millis(1));
        assert!(pause(world.guard.show_app(&of_app(1)).await) <= first);
    }
    let second = pause(world.guard.show_app(&of_app(2)).await);
    assert!(second > first && second < first * 3, "{first:?}, {second:?}");
}

/// A key of one site is unknown at another, and the operator's own is used for the resources of many.
#[tokio::test]
async fn credentials_that_another_site_rejects_are_used_on_where_they_are_good() {
    let world = world(&[CloudErrorKind::CredentialsRejected]);
    let at = |region| {
        let mut target = target();
        target.endpoint = crate::endpoint::Endpoint::for_region(region).unwrap();
        target
    };
    assert!(world.guard.show_app(&at("eu-west-101")).await.is_err());
    world.guard.show_app(&at("cn-north-4")).await.unwrap();
    let refused = kind(world.guard.show_app(&at("eu-west-101")).await);
    assert!(matches!(refused, CloudErrorKind::LockedOut { .. }), "{refused:?}");
}

#[tokio::test]
async fn nobody_waits_long_for_another_calls_try() {
    let world = world(&[]);
    let target = target();
    let _held = world.cloud.gate.acquire_many(1000).await.unwrap();
    let mut stuck = Box::pin(world.guard.show_app(&target));
    assert!(stuck.as_mut().now_or_never().is_none());
    let postponed = CloudErrorKind::Postponed { after: DEFAULT_PAUSE };
    assert_eq!(kind(world.guard.show_app(&target).await), postponed);
    assert_eq!(world.clock.uptime(), 10 * SECOND);
    assert_eq!(
        kind(world.guard.reset_code_of(&target).await),
        postponed,
        "a change does not wait at all"
    );
    assert_eq!(world.clock.uptime(), 10 * SECOND);
    assert_eq!(world.cloud.calls(), 1);
}

#[tokio::test]
async fn a_call_that_was_given_up_leaves_the_way_open() {
    let world = world(&[]);
    let target = target();
    let permits = world.cloud.gate.acquire_many(1000).await.unwrap();
    assert!(world.guard.show_app(&target).now_or_never().is_none());
    drop(permits);
    world.guard.show_app(&target).await.unwrap();
    assert_eq!(world.cloud.calls(), 2);
}

#[tokio::test]
async fn a_throttled_caller_is_slowed_and_others_are_not() {
    for (asked, pause) in [(Some(Duration::from_secs(8)), 8), (None, 5)] {
        let world = world(&[CloudErrorKind::Throttled { retry_after: asked }]);
        assert!(world.guard.show_app(&caller("a", "1")).await.is_err());
        world.guard.show_app(&caller("b", "1")).await.unwrap();
        assert_eq!(world.clock.uptime(), Duration::ZERO);
        world.guard.show_app(&caller("a", "1")).await.unwrap();
        assert_eq!(world.clock.uptime(), pause * SECOND);
    }
}

#[tokio::test]
async fn a_long_pause_is_told_at_once() {
    let quarter = Duration::from_secs(900);
    let world = world(&[CloudErrorKind::Throttled {
        retry_after: Some(quarter),
    }]);
    assert!(world.guard.show_app(&target()).await.is_err());
    let again = kind(world.guard.show_app(&target()).await);
    assert_eq!(again, CloudErrorKind::Postponed { after: quarter });
    assert_eq!((world.cloud.calls(), world.clock.uptime()), (1, Duration::ZERO));
}

#[tokio::test]
async fn a_refusal_for_who_the_caller_is_proves_its_credentials() {
    for answer in [
        CloudErrorKind::NotAuthorized,
        CloudErrorKind::AppNotFound,
        CloudErrorKind::NotFound,
    ] {
        let world = world(&[answer]);
        assert!(world.guard.show_app(&target()).await.is_err());
        assert_eq!(
            world.guard.lock().callers["ns/credentials"].sites[target().endpoint.site()]
                .breaker
                .peek("1", SECOND),
            Entry::Pass
        );
    }
}

#[tokio::test]
async fn the_memory_of_callers_is_bounded_and_a_closed_breaker_is_kept() {
    let world = world_with(
        &[CloudErrorKind::CredentialsRejected],
        GuardOptions {
            global_rate: 1e6,
            ..GuardOptions::default()
        },
    );
    assert!(world.guard.show_app(&caller("bad", "1")).await.is_err());
    for number in 0..MAX_CALLERS + 100 {
        world.guard.show_app(&caller(&number.to_string(), "1")).await.unwrap();
        world.clock.advance(Duration::from_millis(10));
    }
    assert!(world.guard.lock().callers.len() <= MAX_CALLERS);
    assert!(matches!(
        kind(world.guard.show_app(&caller("bad", "1")).await),
        CloudErrorKind::LockedOut { .. }
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the cloud says and however time passes, a key sees no five failures within a lock's five minutes.
    #[test]
    fn a_key_is_never_tried_into_its_lock(steps in prop::collection::vec((0_u8..4, 0_u64..120), 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let world = world(&[]);
            let mut failures: Vec<Duration> = Vec::new();
            for (answer, pause) in steps {
                world.clock.advance(Duration::from_secs(pause));
                let answer = match answer {
                    0 => None,
                    1 => Some(CloudErrorKind::CredentialsRejected),
                    2 => Some(CloudErrorKind::UnknownOutcome),
                    _ => Some(CloudErrorKind::LockedOut { retry_after: SECOND }),
                };
                *world.cloud.answers.lock().unwrap() = answer.into_iter().collect();
                let before = world.cloud.calls();
                let outcome = world.guard.show_app(&target()).await;
                let is_failure = matches!(
                    outcome.map_err(|error| error.kind),
                    Err(CloudErrorKind::CredentialsRejected | CloudErrorKind::LockedOut { .. })
                );
                if world.cloud.calls() > before && is_failure {
                    failures.push(world.clock.uptime());
                }
            }
            for pair in failures.windows(2) {
                prop_assert!(pair[1].saturating_sub(pair[0]) >= Duration::from_secs(300));
            }
            Ok(())
        })?;
    }
}
