//! What holds for every observation, however it came about; and that every run without faults comes to rest.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::api::{
    AppCodeRotationStatus, AppStatus, CreationPolicy, CurrentCode, DeletionPolicy, InitialRotation, Outcome,
    RotationStep, SecretTemplate, Strategy as Kind, TargetStatus, TemplateText, Trigger,
};
use crate::ids::{AppId, AppIdentity, ProjectId, RotationId};
use crate::intent::{Call, Consumed, Distribution, FORMAT_VERSION, Verdict};
use crate::remedy::page;
use crate::schedule::{Cron, Rhythm, Timetable, Window};
use crate::secret::{Extras, Rendered};
use crate::status::{Pass, fold, mirror_before_call};
use crate::template::Layout;

const DRAW: u64 = 0xd0d0;
const TARGET: &str = "target";
const FORMER: &str = "former";

const LIMITS: Limits = Limits {
    settle_window: SignedDuration::from_mins(2),
    minimum_interval: SignedDuration::from_mins(10),
    daily_budget: 6,
    check_period: SignedDuration::from_hours(1),
};

pub(crate) fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn app(id: &str) -> AppIdentity {
    AppIdentity {
        endpoint: "https://cloud".into(),
        project_id: ProjectId::parse("project").unwrap(),
        app_id: AppId::parse(id).unwrap(),
    }
}

pub(crate) fn code(number: u8) -> Fingerprint {
    Fingerprint::of(&app("ours").app_id, &number.to_string())
}

// ── observations ───────────────────────────────────────────────────────────────────────────────────────────────────

fn any_code() -> BoxedStrategy<Fingerprint> {
    (0u8..6).prop_map(code).boxed()
}

fn any_codes(most: usize) -> BoxedStrategy<Vec<Fingerprint>> {
    vec(any_code(), 0..=most)
        .prop_map(|mut codes| {
            codes.sort_unstable();
            codes.dedup();
            codes
        })
        .boxed()
}

fn any_app() -> BoxedStrategy<AppIdentity> {
    prop_oneof![5 => Just(app("ours")), 1 => Just(app("other"))].boxed()
}

fn any_time() -> BoxedStrategy<Timestamp> {
    let seconds = vec![-400 * 3600, -30 * 3600, -3 * 3600, -660, -60, -1, 0, 3600];
    select(seconds)
        .prop_map(|seconds| now() + SignedDuration::from_secs(seconds))
        .boxed()
}

fn any_value() -> BoxedStrategy<Option<String>> {
    of(select(vec!["a".to_owned(), "b".to_owned()])).boxed()
}

/// Steps of an `Overlap` rotation whose code is in the Secret.
const AFTERWARDS: [RotationStep; 4] = [
    RotationStep::Persisted,
    RotationStep::Distributed,
    RotationStep::Retiring,
    RotationStep::Retired,
];

fn any_intent() -> BoxedStrategy<Intent> {
    use Trigger::{Initial, Request, Schedule, Spec, Target};
    let asked = (
        select(vec!["us", "another"]),
        select(vec![Initial, Target, Spec, Request, Schedule]),
        (any_value(), any_value(), of(any_code())),
    );
    let made = (
        any_app(),
        weighted(0.8, any_code()),
        any::<bool>(),
        any_codes(5),
        any_codes(2),
    );
    let when = (any_time(), 1u32..4, 0i64..6, any::<bool>(), of(0i64..3));
    let overlap = weighted(0.5, (select(AFTERWARDS.to_vec()), any_time()));
    (asked, made, when, overlap)
        .prop_map(|((uid, trigger, consumed), made, when, overlap)| {
            let ((app, base, adds, known, unclaimed), (at, attempt, number, is_open, updated_at)) = (made, when);
            let is_beside = overlap.is_some() && base.is_some();
            let (step, distributed_at) = overlap.map_or((RotationStep::Persisted, None), |(step, at)| {
                (if base.is_some() { step } else { RotationStep::Persisted }, Some(at))
            });
            let step = if is_open { RotationStep::Started } else { step };
            Intent {
                format_version: FORMAT_VERSION,
                rotation_id: RotationId::from_random(u64::try_from(number).unwrap()),
                number,
                uid: uid.into(),
                generation: 1,
                trigger,
                consumed: Consumed {
                    trigger: consumed.0,
                    request: consumed.1,
                    seed: consumed.2,
                },
                strategy: if overlap.is_some() { Kind::Overlap } else { Kind::Reset },
                step,
                app,
                base,
                call: match step {
                    RotationStep::Retiring | RotationStep::Retired => Call::Delete,
                    _ if adds || is_beside || base.is_none() => Call::Add,
                    _ => Call::Reset,
                },
                known,
                unclaimed,
                attempt,
                updated_at,
                started_at: at,
                marked_at: at,
                outcome: (!is_open).then_some(Outcome::Completed),
                distribution: distributed_at.filter(|_| !is_open && is_beside).map(|at| Distribution {
                    distributed_at: (step != RotationStep::Persisted).then_some(at),
                    ..Distribution::default()
                }),
            }
        })
        .boxed()
}

fn any_record() -> BoxedStrategy<Record> {
    let codes = (weighted(0.8, any_code()), of(any_code()), of(any_code()));
    let rest = (0i64..5, of(any_time()), any_value(), any_value(), vec(any_time(), 0..8));
    (any_app(), codes, rest, of(any_intent()), any_rendered())
        .prop_map(|(app, codes, rest, intent, rendered)| Record {
            app,
            number: rest.0,
            fingerprint: codes.0,
            previous: codes.1,
            rotated_at: rest.1,
            seed: codes.2,
            handled_trigger: rest.2,
            handled_request: rest.3,
            recent: rest.4,
            adopted: None,
            rendered,
            // What is persisted has the record's number: they are written together.
            // And a rotation has one number, wherever it is told of. Two rotations may have the same one, as after a Secret
            // that was deleted.
            intent: intent.map(|intent| {
                let number = if intent.is_open() { intent.number } else { rest.0 };
                let is_other = u64::from(intent.attempt > 2);
                Intent {
                    rotation_id: RotationId::from_random(2 * u64::try_from(number).unwrap() + is_other),
                    number,
                    ..intent
                }
            }),
        })
        .boxed()
}

fn any_secret() -> BoxedStrategy<SecretView> {
    let ours = (
        any_record(),
        weighted(0.8, any_code()),
        weighted(0.1, prop_oneof![Just(Lock::Immutable), Just(Lock::Going)]),
        weighted(0.1, Just(())),
    );
    prop_oneof![
        6 => ours.prop_map(|(record, code, locked, astray)| SecretView::Ours(OurSecret {
            resource_version: "1".into(), record, code, locked, unfit: None, is_inherited: false,
            extras: Extras { is_astray: astray.is_some(), is_made: true, ..Extras::default() },
        })),
        2 => Just(SecretView::Absent),
        1 => Just(SecretView::Foreign { why: "is not ours" }),
        1 => Just(SecretView::Unreadable("unknown format".into())),
    ]
    .boxed()
}

fn any_status() -> BoxedStrategy<AppCodeRotationStatus> {
    let current = of((any_code(), any_time()));
    let values = (any_value(), any_value(), of(any_code()));
    let rest = (of(0i64..5), of(1i64..3), of(any_time()), any_app(), any::<bool>());
    (current, values, rest)
        .prop_map(|(current, values, rest)| {
            let (rotation_number, observed_generation, verified, app, has_moved) = rest;
            AppCodeRotationStatus {
                observed_generation,
                rotation_number,
                app: current.as_ref().map(|_| AppStatus {
                    endpoint: app.endpoint,
                    project_id: app.project_id.to_string(),
                    app_id: app.app_id.to_string(),
                }),
                current: current.map(|(code, at)| CurrentCode {
                    fingerprint: code.short(),
                    rotated_at: Time(at),
                }),
                last_handled_trigger: values.0,
                last_handled_request: values.1,
                seed_fingerprint: values.2.map(|seed| seed.short()),
                last_verified_time: verified.map(Time),
                target: Some(TargetStatus {
                    name: if has_moved { FORMER } else { TARGET }.into(),
                    key: "appCode".into(),
                }),
                ..AppCodeRotationStatus::default()
            }
        })
        .boxed()
}

fn any_wanted() -> BoxedStrategy<Wanted> {
    let seed = prop_oneof![
        2 => Just(SeedView::None),
        1 => Just(SeedView::Unreadable("no such Secret".into())),
        3 => (any_code(), any::<bool>()).prop_map(|(fingerprint, inline)| SeedView::Known { fingerprint, inline }),
    ];
    let window = select(vec!["0 */8 * * *", "30 * * * *", "0 0 1 * *"]).prop_map(|text| Window {
        cron: Cron::parse(text, TimeZone::UTC).unwrap(),
        duration: SignedDuration::from_mins(45),
    });
    let schedule = of((24i64..200, 0i64..12, weighted(0.3, window))).prop_map(|drawn| {
        drawn.map(|(interval, jitter, window)| Timetable {
            rhythm: Rhythm::Interval(SignedDuration::from_hours(interval)),
            jitter: SignedDuration::from_hours(jitter),
            windows: window.into_iter().collect(),
        })
    });
    let initial = of(select(vec![InitialRotation::Immediate, InitialRotation::WhenDue]));
    let suspend = weighted(0.2, Just(())).prop_map(|it| it.is_some());
    let name = weighted(0.1, Just("named".to_owned()));
    let kind = select(vec![Kind::Reset, Kind::Overlap]);
    let handover = (kind, select(vec![0, 1, 3])).prop_map(|(strategy, grace)| Handover {
        strategy,
        grace: SignedDuration::from_hours(grace),
        ..Handover::default()
    });
    let rest = (seed, schedule, initial, any_value(), suspend, name);
    (rest, handover, any_layout())
        .prop_map(
            |((seed, schedule, initial, trigger, suspend, app_name), handover, layout)| Wanted {
                app: app("ours"),
                app_name,
                seed,
                schedule,
                initial,
                trigger,
                suspend,
                target: TargetStatus {
                    name: TARGET.into(),
                    key: "appCode".into(),
                },
                handover,
                layout,
            },
        )
        .boxed()
}

fn any_layout() -> BoxedStrategy<Layout> {
    use CreationPolicy::{Adopt, Create, Merge};
    let creation = select(vec![Create, Create, Create, Adopt, Merge]);
    let text = BTreeMap::from([(
        "url".to_owned(),
        TemplateText("https://{{ appCode }}@{{ appName }}".to_owned()),
    )]);
    (creation, weighted(0.2, Just(text)), of(Just("previous".to_owned())))
        .prop_map(|(creation, text, previous_key)| Layout {
            previous_key,
            template: SecretTemplate {
                data: text.unwrap_or_default(),
                ..SecretTemplate::default()
            },
            creation,
            deletion: DeletionPolicy::Retain,
        })
        .boxed()
}

/// What a Secret says of an earlier rendering: mostly nothing.
fn any_rendered() -> BoxedStrategy<Option<Rendered>> {
    let rendered = of(Just("spec.target.template.data[url] does too much".to_owned())).prop_map(|fault| Rendered {
        shape: "another".to_owned(),
        data: vec!["url".to_owned()],
        fault,
        ..Rendered::default()
    });
    weighted(0.2, rendered).boxed()
}

fn any_cloud() -> BoxedStrategy<Cloud> {
    let rare = || weighted(0.1, Just(())).prop_map(|it| it.is_some());
    let reading = (any_codes(5), of(0i64..3), rare(), rare(), rare(), of(any_code()));
    prop_oneof![
        1 => Just(Cloud::NotAsked),
        1 => any::<bool>().prop_map(|is_final| Cloud::Failed(Failure {
            reason: Reason::NotAuthorized,
            message: "no".into(),
            request_id: None,
            is_final,
            after: None,
        })),
        8 => reading.prop_map(|(codes, updated_at, masked, is_foreign, is_unsupported, odd)| Cloud::Read(AppReading {
            name: Some("named".into()),
            is_supported: !is_unsupported,
            is_owned: is_foreign.then_some(false),
            updated_at,
            unaddressable: odd.into_iter().filter(|code| codes.contains(code)).take(usize::from(masked)).collect(),
            codes,
            masked,
        })),
    ]
    .boxed()
}

fn any_sibling() -> BoxedStrategy<Sibling> {
    let standing = select(vec![Standing::Unknown, Standing::Authorized, Standing::Refused]);
    let open = of(((of(any_code()), any_time()), any::<bool>()));
    (any::<bool>(), any::<bool>(), standing, any_time(), any_codes(2), open)
        .prop_map(|(is_older, is_judged, standing, created, holds, open)| Sibling {
            name: None,
            shares: Shares::App,
            is_older,
            created,
            is_judged,
            standing,
            holds,
            shown: None,
            open: open.map(|((base, marked_at), adds)| OpenSibling { base, marked_at, adds }),
        })
        .boxed()
}

/// Half of the time what is remembered is about the intent on the Secret, and settled.
fn any_memory(secret: &SecretView, cloud: &Cloud) -> BoxedStrategy<Memory> {
    let intent = secret.ours().and_then(|secret| secret.record.intent.clone());
    let own = intent
        .clone()
        .map_or_else(|| any_intent().boxed(), |own| Just(own).boxed());
    let listed = match cloud {
        Cloud::Read(app) => Just(app.codes.clone()).boxed(),
        _ => any_codes(4).boxed(),
    };
    let settling = (listed, any::<bool>(), 0i64..240);
    let flags = (weighted(0.2, Just(())), weighted(0.2, Just(())), any::<bool>());
    (own, any_intent(), flags, of(settling), of(any_code()))
        .prop_map(|(own, other, flags, settling, held)| {
            let intent = if flags.2 { own } else { other };
            Memory {
                refusals: None,
                leaving: None,
                marked: flags.0.map(|()| Attempt::of(&intent)),
                not_applied: flags.1.map(|()| Attempt::of(&intent)),
                settling: settling
                    .into_iter()
                    .map(|(codes, is_outcome, since)| Settling {
                        question: if is_outcome {
                            Question::Outcome {
                                rotation_id: intent.rotation_id.clone(),
                                attempt: intent.attempt,
                            }
                        } else {
                            Question::NotListed {
                                code: code(0).to_string(),
                            }
                        },
                        since: SignedDuration::from_secs(since),
                        codes,
                    })
                    .collect(),
                held: held.map(|code| Held { intent, code }),
                trial: None,
                denied: None,
                unrestarted: None,
            }
        })
        .boxed()
}

pub(crate) fn any_observed() -> BoxedStrategy<Observed> {
    let former = prop_oneof![3 => Just(SecretView::Absent).boxed(), 1 => any_secret()];
    let views = (any_secret(), former, any_cloud()).prop_flat_map(|(secret, former, cloud)| {
        let memory = any_memory(&secret, &cloud);
        (Just(secret), Just(former), Just(cloud), memory)
    });
    let rare = |share: f64| weighted(share, Just(())).prop_map(|it| it.is_some());
    let around = (
        any_status(),
        any_wanted(),
        vec(any_sibling(), 0..2),
        any_value(),
        weighted(0.2, any_code()),
    );
    let flags = (rare(0.05), rare(0.1), rare(0.9), any::<bool>(), rare(0.05));
    // Half of the time status shows the rotation that the Secret tells of; now and then one that it does not.
    let shown = (
        any::<bool>(),
        weighted(0.2, any_intent()),
        any::<bool>(),
        of(any_time()),
    );
    (views.boxed(), around.boxed(), flags, shown)
        .prop_map(|((secret, former, cloud, memory), around, flags, shown)| {
            let (mut status, wanted, siblings, request, adopt) = around;
            let (is_shown, stray, has_finalizer, held_since) = shown;
            let own = secret.ours().and_then(|secret| secret.record.intent.clone());
            let mirror = own.filter(|_| is_shown).or(stray);
            let mirror = mirror.filter(|intent| intent.strategy == Kind::Overlap && intent.base.is_some());
            status.rotation = mirror.as_ref().map(mirror_before_call);
            let (deleting, is_write_refused, may_mutate, nudged, is_spec_refused) = flags;
            let has_moved = status.target.as_ref().is_some_and(|target| target.name == FORMER);
            let refusal = || Refusal {
                reason: Reason::InvalidSpec,
                message: "wrong".into(),
            };
            Observed {
                limits: LIMITS,
                resource: ResourceView {
                    namespace: "ns".into(),
                    name: "name".into(),
                    uid: "us".into(),
                    generation: 2,
                    deleting,
                    held_since: held_since.filter(|_| deleting && has_finalizer),
                    has_finalizer,
                    request,
                    adopt: adopt.map(|code| code.short()),
                },
                wanted: if is_spec_refused { Err(refusal()) } else { Ok(wanted) },
                status,
                target: TARGET.into(),
                secret,
                former: if has_moved { former } else { SecretView::Absent },
                mirror,
                cloud,
                shown_at: None,
                rollouts: None,
                marked: Vec::new(),
                finalizer_refused: None,
                siblings,
                is_crowded: false,
                memory,
                secret_refused: is_write_refused.then(|| "forbidden".into()),
                nudged,
                may_mutate,
                uptime: SignedDuration::from_secs(240),
                draw: DRAW,
            }
        })
        .boxed()
}

// ── what is asked of them ──────────────────────────────────────────────────────────────────────────────────────────

/// The Secret that a step writes, with its new record.
fn written(step: &Step) -> Option<(&str, &Record)> {
    match step {
        Step::CreateSecret { secret, record }
        | Step::WriteIntent { secret, record }
        | Step::WriteRecord { secret, record }
        | Step::WriteCode { secret, record, .. } => Some((secret, record)),
        _ => None,
    }
}

fn view<'a>(o: &'a Observed, name: &str) -> &'a SecretView {
    if name == o.target { &o.secret } else { &o.former }
}

/// The intent that a step starts, if it starts a rotation; and the one that it repeats, if it repeats one.
fn started(o: &Observed, step: &Step) -> (Option<Intent>, Option<(Intent, Intent)>) {
    let Step::WriteIntent { secret, record } = step else {
        return (None, None);
    };
    let intent = record.intent.clone().unwrap();
    if intent.rotation_id == RotationId::from_random(DRAW) {
        return (Some(intent), None);
    }
    if intent.call == Call::Delete {
        return (None, None);
    }
    let before = view(o, secret).ours().and_then(|secret| secret.record.intent.clone());
    let before = before.filter(|before| before.rotation_id == intent.rotation_id && before.number == intent.number);
    let before = before.or_else(|| o.mirror.clone());
    (None, Some((before.expect("only what is there is repeated"), intent)))
}

/// The intent that a step marks for the deletion of its base, if it does.
fn retiring(step: &Step) -> Option<&Intent> {
    match step {
        Step::WriteIntent { record, .. } => record.intent.as_ref().filter(|intent| intent.call == Call::Delete),
        _ => None,
    }
}

/// Whether anything asks for a rotation, read off what was observed without the help of the code under test.
fn has_reason(o: &Observed, wanted: &Wanted) -> bool {
    let record = o.book().map(|(_, secret)| &secret.record);
    let in_record = record.filter(|record| record.app == wanted.app);
    let in_status = o
        .status
        .app
        .as_ref()
        .is_some_and(|app| app.app_id == wanted.app.app_id.as_str());
    let shown = o.status.current.as_ref().filter(|_| in_status);
    let has_current = in_record.is_some_and(|record| record.fingerprint.is_some()) || shown.is_some();
    let is_new = |value: &Option<String>, record: Option<&String>, status: Option<&String>| {
        value.is_some() && value.as_ref() != record && value.as_ref() != status
    };
    let trigger = is_new(
        &wanted.trigger,
        record.and_then(|record| record.handled_trigger.as_ref()),
        o.status.last_handled_trigger.as_ref(),
    );
    let request = is_new(
        &o.resource.request,
        record.and_then(|record| record.handled_request.as_ref()),
        o.status.last_handled_request.as_ref(),
    );
    let times = in_record.and_then(|record| record.rotated_at).into_iter();
    let mut times = times.chain(shown.map(|shown| shown.rotated_at.0));
    let scheduled = wanted
        .schedule
        .as_ref()
        .is_some_and(|timetable| match &timetable.rhythm {
            Rhythm::Interval(interval) => times.any(|time| time + *interval <= now()),
            Rhythm::Cron(_) => false,
        });
    let seed = wanted.seed.fingerprint().is_some_and(|seed| {
        let recorded = in_record.and_then(|record| record.seed);
        recorded != Some(seed) && (!in_status || o.status.seed_fingerprint != Some(seed.short()))
    });
    !has_current || trigger || request || scheduled || seed
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4096) })]

    #[test]
    fn the_same_observation_gives_the_same_step(o in any_observed()) {
        prop_assert_eq!(plan(&o, now()), plan(&o.clone(), now()));
    }

    #[test]
    fn nothing_starts_before_it_is_due(o in any_observed()) {
        let step = plan(&o, now());
        if let (Some(intent), _) = started(&o, &step) {
            let wanted = o.wanted.as_ref().unwrap();
            prop_assert!(has_reason(&o, wanted), "no reason for {:?}", intent.trigger);
            let is_open = wanted.schedule.as_ref().is_some_and(|timetable| timetable.is_open(now()));
            prop_assert!(intent.trigger != Trigger::Schedule || is_open, "outside of every window");
            prop_assert!(!wanted.suspend && o.may_mutate && !o.resource.deleting);
            prop_assert_eq!(&intent.app, &wanted.app);
            prop_assert_eq!(&intent.consumed.trigger.is_some(), &intent.consumed.trigger.as_ref().is_some_and(|value| {
                Some(value) == wanted.trigger.as_ref()
            }));
            let record = o.book().map(|(_, secret)| &secret.record);
            let is_today = |at: &&Timestamp| **at > now() - SignedDuration::from_hours(24) && **at <= now();
            let started_today = record.map_or(0, |record| record.recent.iter().filter(is_today).count());
            prop_assert!(started_today < o.limits.daily_budget, "the budget is kept");
            prop_assert!(record.is_none_or(|record| intent.number > record.highest_number()));
            prop_assert!(intent.number > o.status.rotation_number.unwrap_or(0));
            let listed = &o.reading().unwrap().codes;
            prop_assert!(intent.base.is_none_or(|base| listed.contains(&base)), "only a listed code is replaced");
            prop_assert!(listed.iter().all(|code| intent.known.contains(code) || Some(*code) == intent.base));
        }
    }

    #[test]
    fn a_call_goes_out_only_right_after_its_mark(o in any_observed()) {
        if let Step::Mutate(intent) = plan(&o, now()) {
            prop_assert_eq!(o.intent(), Some(&intent));
            prop_assert!(o.memory.is_marked(&intent));
            prop_assert!(intent.is_open() || intent.step == RotationStep::Retiring);
            prop_assert_eq!(&intent.app, &o.wanted.as_ref().unwrap().app);
            prop_assert!(matches!(&o.cloud, Cloud::Read(app) if !app.masked && app.is_supported));
        }
    }

    #[test]
    fn a_repeat_follows_a_proof_or_two_agreeing_reads(o in any_observed()) {
        let step = plan(&o, now());
        if let (_, Some((before, intent))) = started(&o, &step) {
            let app = o.reading().unwrap();
            prop_assert_eq!(intent.attempt, before.attempt + 1);
            prop_assert_eq!(&intent.rotation_id, &before.rotation_id);
            prop_assert!(before.is_open() && before.app == o.wanted.as_ref().unwrap().app);
            prop_assert!(app.codes.iter().all(|code| intent.known.contains(code) || Some(*code) == intent.base));
            let is_settled = o.memory.settling.iter().any(|settling| {
                settling.codes == app.codes && o.uptime - settling.since >= o.limits.settle_window
            });
            prop_assert!(is_settled || o.memory.is_not_applied(&before));
            if intent.call == Call::Reset {
                prop_assert!(intent.base.is_some_and(|base| app.codes.contains(&base)), "the base is a compare-and-swap");
            }
            // Held back, only a code that is missing is put back.
            if o.wanted.as_ref().unwrap().suspend {
                prop_assert!(intent.call == Call::Add && intent.base.is_some_and(|base| !app.codes.contains(&base)));
            }
            prop_assert!(o.may_mutate);
        }
    }

    #[test]
    fn only_the_code_before_is_deleted_and_only_when_all_agree_on_it(o in any_observed()) {
        let step = plan(&o, now());
        let Some(intent) = retiring(&step) else { return Ok(()) };
        let wanted = o.wanted.as_ref().unwrap();
        let app = o.reading().unwrap();
        let base = intent.base.unwrap();
        prop_assert!(app.codes.contains(&base) && !app.masked && app.is_supported && o.may_mutate && !wanted.suspend);
        prop_assert_eq!(&intent.app, &wanted.app);
        prop_assert_eq!(intent.strategy, Kind::Overlap);
        let shown = o.status.rotation.as_ref().unwrap();
        prop_assert_eq!(&shown.rotation_id, intent.rotation_id.as_str());
        prop_assert_eq!(shown.replaces.as_ref(), Some(&base.short()));
        let (_, book) = o.book().unwrap();
        prop_assert!(book.record.fingerprint.is_none_or(|current| current != base));
        let distributed_at = intent.distribution.as_ref().unwrap().distributed_at.unwrap();
        prop_assert!(distributed_at.min(now()) + wanted.handover.grace <= now(), "the grace period is kept");
        prop_assert!(o.siblings.iter().all(|sibling| !sibling.holds.contains(&base)));
        if !o.resource.deleting {
            let current = book.code.unwrap();
            prop_assert!(app.codes.contains(&current) && current != base, "another code works");
            prop_assert!(o.resource.has_finalizer);
        }
    }

    #[test]
    fn no_code_is_added_where_there_is_no_place_or_one_is_still_to_be_retired(o in any_observed()) {
        let step = plan(&o, now());
        let (new, repeated) = started(&o, &step);
        let Some(intent) = new.clone().or(repeated.map(|(_, intent)| intent)) else { return Ok(()) };
        if intent.call == Call::Add && intent.strategy == Kind::Overlap && intent.base.is_some() {
            prop_assert!(o.reading().unwrap().codes.len() < 5);
        }
        let last = o.intent().filter(|last| last.retires().is_some() && !o.resource.deleting);
        if let (Some(last), Some(new)) = (last, new) {
            let done = o.book().map_or(0, |(_, book)| book.record.number).max(o.status.rotation_number.unwrap_or(0));
            // A code and the record of it are written at once: one of another app beside it is a person's work.
            let is_whole = |secret: &OurSecret| secret.record.fingerprint.is_some() && secret.record.app == last.app;
            let is_current = o.secret.ours().is_some_and(is_whole) && o.book().is_some_and(|(_, book)| is_whole(book));
            prop_assert!(last.number != done || !is_current, "rotation {} starts before {} is finished", new.number, last.number);
        }
    }

    #[test]
    fn what_is_not_ours_is_never_touched(o in any_observed()) {
        let step = plan(&o, now());
        let Some((name, record)) = written(&step) else { return Ok(()) };
        prop_assert!(name == TARGET || o.status.target.as_ref().is_some_and(|target| target.name == name));
        let is_creation = matches!(step, Step::CreateSecret { .. });
        match view(&o, name) {
            SecretView::Absent => prop_assert!(!matches!(step, Step::WriteCode { .. }), "a create carries no code"),
            SecretView::Ours(secret) => {
                prop_assert!(!is_creation);
                prop_assert_eq!(secret.locked, None);
                prop_assert!(record.number >= secret.record.number, "numbers never go back");
                // An intent of another app than its record is not by an operator.
                let last = last_number(&secret.record);
                prop_assert!(record.highest_number() >= last || record.intent.is_none(), "{:?}", record);
            }
            other => prop_assert!(false, "{:?} is not ours", other),
        }
        // Under a refused spec a held code is saved for the app that it was made for.
        let held = o.memory.held.as_ref().map(|held| &held.intent.app);
        let expected = if o.wanted.is_ok() { Some(&app("ours")) } else { held };
        prop_assert_eq!(Some(&record.app), expected);
        let is_persist = matches!(step, Step::WriteCode { why: WriteReason::Persist, .. });
        let is_retirement = record.intent.as_ref().is_some_and(|intent| intent.strategy == Kind::Overlap);
        prop_assert!(!o.resource.deleting || is_persist || (is_retirement && o.resource.has_finalizer));
    }

    #[test]
    fn only_a_listed_code_is_written_and_never_another_owners(o in any_observed()) {
        if let Step::WriteCode { code, record, why, .. } = plan(&o, now()) {
            let app = o.reading().unwrap();
            prop_assert!(app.codes.contains(&code) && !app.masked && app.is_supported);
            prop_assert_eq!(record.fingerprint, Some(code));
            if why == WriteReason::Persist {
                prop_assert!(record.number > o.status.rotation_number.unwrap_or(0));
                let intent = record.intent.as_ref().unwrap();
                prop_assert!(!intent.is_open() && intent.number == record.number);
            } else {
                let claims = |sibling: &Sibling| sibling.is_older && sibling.standing == Standing::Authorized && sibling.holds.contains(&code);
                prop_assert!(!o.siblings.iter().any(claims), "the older resource keeps its code");
            }
        }
    }

    #[test]
    fn a_refused_spec_or_a_forbidden_write_changes_nothing(o in any_observed()) {
        let step = plan(&o, now());
        if o.wanted.is_err() && !o.resource.deleting {
            // All that is still done is to save a code that was made before.
            let is_refusal = matches!(step, Step::Stop { reason: Reason::InvalidSpec, .. });
            let starts = matches!(step, Step::CreateSecret { .. } | Step::WriteIntent { .. } | Step::Mutate(_));
            prop_assert!(is_refusal || (o.memory.held.is_some() && !starts), "{:?}", step);
        } else if o.secret_refused.is_some() && !o.resource.deleting && o.former == SecretView::Absent {
            prop_assert!(written(&step).is_none() && !matches!(step, Step::Mutate(_)));
        }
    }

    #[test]
    fn every_stop_says_that_nothing_is_changed_and_what_resolves_it(o in any_observed()) {
        // Those two tell it themselves.
        let is_told = o.wanted.is_ok() && !matches!(o.cloud, Cloud::Failed(_));
        if let (Step::Stop { reason, message, .. }, true) = (plan(&o, now()), is_told) {
            let (prose, commands) = (prose(&message), commands(&message).collect::<Vec<_>>());
            prop_assert!(prose.contains("nothing is") || prose.contains("nothing more is"), "{}", message);
            prop_assert!((1..=2).contains(&commands.len()), "{}", message);
            prop_assert!(commands.iter().all(|it| it.starts_with("kubectl ")), "{}", message);
            let strays: Vec<_> = commands.iter().filter(|it| !page::tells(reason.as_str(), it)).collect();
            prop_assert!(strays.is_empty(), "not under {} on the page: {:#?}", reason.as_str(), strays);
        }
    }

    #[test]
    fn every_pause_is_longer_than_nothing(o in any_observed()) {
        if let Step::Wait { after, .. } | Step::Linger { after, .. } | Step::BackOff { after } | Step::Stop { after, .. } | Step::Rest { after } = plan(&o, now()) {
            prop_assert!(after.is_positive());
        }
    }
}

// ── rest ───────────────────────────────────────────────────────────────────────────────────────────────────────────

/// A cloud and an API server that do what they are asked.
struct Model {
    o: Observed,
    codes: Vec<Fingerprint>,
    made: u8,
    now: Timestamp,
    changes: usize,
}

impl Model {
    /// Everything as in `o`; nothing is remembered and nobody else is there.
    fn of(o: Observed) -> Self {
        let codes = o.reading().map(|app| app.codes.clone()).unwrap_or_default();
        let o = Observed {
            memory: Memory::default(),
            siblings: Vec::new(),
            is_crowded: false,
            secret_refused: None,
            may_mutate: true,
            ..o
        };
        Self {
            o,
            codes,
            made: 100,
            now: now(),
            changes: 0,
        }
    }

    fn read(&self) -> Cloud {
        Cloud::Read(AppReading {
            name: Some("named".into()),
            is_supported: true,
            is_owned: None,
            updated_at: Some(i64::from(self.made)),
            codes: self.codes.clone(),
            unaddressable: Vec::new(),
            masked: false,
        })
    }

    fn write(&mut self, name: &str, record: Record, code: Option<Fingerprint>) {
        let is_target = name == self.o.target;
        let app_name = self.o.reading().and_then(|app| app.name.clone());
        let slot = if is_target {
            &mut self.o.secret
        } else {
            &mut self.o.former
        };
        let kept = slot.ours().and_then(|secret| secret.code);
        let extras = slot.ours().map(|secret| secret.extras.clone()).unwrap_or_default();
        let rendered = slot.ours().and_then(|secret| secret.record.rendered.clone());
        let wanted = self.o.wanted.as_ref().ok();
        let shape = wanted.and_then(|wanted| record.shape(&wanted.layout, "appCode", app_name.as_deref(), &self.codes));
        let is_laid_out = is_target && code.is_some();
        let shape = shape.filter(|_| is_laid_out).map(|shape| Rendered {
            shape,
            ..Rendered::default()
        });
        *slot = SecretView::Ours(OurSecret {
            resource_version: "1".into(),
            record: Record {
                rendered: if is_laid_out { shape } else { rendered },
                ..record
            },
            code: code.or(kept),
            locked: None,
            unfit: None,
            is_inherited: false,
            extras: if is_laid_out { Extras::default() } else { extras },
        });
    }

    /// Does what `controller` does for a step. Returns whether the pass goes on.
    fn act(&mut self, step: &Step) -> bool {
        match step.clone() {
            Step::AskCloud => self.o.cloud = self.read(),
            Step::CreateSecret { secret, record } => {
                self.write(&secret, record, None);
                self.o.cloud = Cloud::NotAsked;
            }
            Step::WriteIntent { secret, record } => {
                let attempt = Attempt::of(record.intent.as_ref().unwrap());
                self.write(&secret, record, None);
                self.o.memory.marked = Some(attempt);
                self.o.memory.settling.clear();
            }
            Step::WriteRecord { secret, record } => self.write(&secret, record, None),
            Step::Hold => self.o.resource.has_finalizer = true,
            Step::Release => self.o.resource.has_finalizer = false,
            Step::Mutate(intent) if intent.call == Call::Delete => {
                self.o.memory.marked = None;
                self.codes.retain(|code| Some(*code) != intent.base);
                self.o.cloud = self.read();
            }
            Step::Mutate(intent) => {
                self.o.memory.marked = None;
                self.changes += 1;
                self.made += 1;
                if intent.strategy == Kind::Overlap {
                    self.o.status.rotation = Some(mirror_before_call(&intent));
                }
                self.codes
                    .retain(|code| intent.call == Call::Add || Some(*code) != intent.base);
                self.codes.push(code(self.made));
                self.codes.sort_unstable();
                self.o.cloud = self.read();
                let app = self.o.reading().unwrap();
                if let Verdict::Ours(code) = intent.resolve(app.reading(&[])) {
                    self.o.memory.held = Some(Held { intent, code });
                }
            }
            Step::WriteCode {
                secret, code, record, ..
            } => {
                self.write(&secret, record, Some(code));
                self.o.memory.held = None;
                self.o.memory.settling.clear();
            }
            Step::Drop => self.o.memory.held = None,
            Step::BeginSettling(question) => {
                self.o.memory.begin_settling(Settling {
                    question,
                    since: self.o.uptime,
                    codes: self.codes.clone(),
                });
            }
            _ => return false,
        }
        true
    }

    /// One pass, its report and the pause after it. Returns the step that ended it, or none if it does not end.
    fn pass(&mut self) -> Option<Step> {
        self.o.cloud = Cloud::NotAsked;
        self.o.draw += 1;
        let shown = self
            .o
            .status
            .rotation
            .as_ref()
            .and_then(|rotation| rotation.intent.as_deref());
        self.o.mirror = shown.map(|text| Intent::parse(text).unwrap());
        // As many steps as `controller` allows.
        for _ in 0..32 {
            let step = plan(&self.o, self.now);
            if self.act(&step) {
                continue;
            }
            let pass = Pass {
                observed: &self.o,
                step: &step,
                happened: &[],
                plain: None,
                history_limit: 3,
                draw: 0.5,
            };
            self.o.status = fold(pass, self.now);
            self.o.nudged = false;
            if self
                .o
                .status
                .target
                .as_ref()
                .is_some_and(|target| target.name == TARGET)
            {
                self.o.former = SecretView::Absent;
            }
            let after = match &step {
                Step::Wait { after, .. }
                | Step::Linger { after, .. }
                | Step::BackOff { after }
                | Step::Stop { after, .. }
                | Step::Rest { after } => *after,
                _ => SignedDuration::ZERO,
            };
            self.now += after + SignedDuration::from_secs(1);
            self.o.uptime += after + SignedDuration::from_secs(1);
            return Some(step);
        }
        None
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2048) })]

    #[test]
    fn without_faults_every_run_comes_to_rest_after_a_few_changes_at_most(o in any_observed()) {
        let mut model = Model::of(o);
        let mut last = None;
        for _ in 0..32 {
            last = model.pass();
            prop_assert!(last.is_some(), "a pass does not end");
            match &last {
                // Shorter rests wait for the minimum interval.
                Some(Step::Rest { after }) if *after > model.o.limits.minimum_interval => break,
                Some(Step::Stop { .. } | Step::Gone) => break,
                _ => {}
            }
        }
        prop_assert!(matches!(last, Some(Step::Rest { .. } | Step::Stop { .. } | Step::Gone)), "no rest: {last:?}");
        // What was open is finished, and then what is due is done.
        prop_assert!(model.changes <= 3, "{} changes", model.changes);
        if let Some(Step::Rest { .. }) = last {
            let Ok(wanted) = &model.o.wanted else { unreachable!("a refused spec stops") };
            let has_schedule = wanted.schedule.is_some();
            // An app without codes that is to be rotated only when due has nothing to hold yet.
            let has_to_wait = model.codes.is_empty() && wanted.initial == Some(InitialRotation::WhenDue);
            if !wanted.suspend && !has_to_wait {
                let held = model.o.secret.ours().and_then(|secret| secret.code);
                prop_assert!(held.is_some_and(|code| model.codes.contains(&code)), "at rest without a live code");
            }
            // What a Secret and status tell at odds with each other, as no run leaves them, may take three more checks.
            let mut checks = Vec::new();
            for _ in 0..6 {
                prop_assert!(model.pass().is_some(), "a check does not end");
                checks.push((model.changes, model.o.secret.clone()));
            }
            if !has_schedule {
                prop_assert!(model.changes <= 3, "{} changes", model.changes);
                let settled = &checks[2..];
                prop_assert!(settled.iter().all(|check| *check == settled[0]), "rest is left without a reason: {checks:?}");
            }
        }
    }
}

/// A resource that has taken its app's only code over and rests.
pub(crate) fn settled() -> Observed {
    let mut model = Model::of(Observed {
        limits: LIMITS,
        resource: ResourceView {
            namespace: "ns".into(),
            name: "name".into(),
            uid: "us".into(),
            generation: 1,
            deleting: false,
            held_since: None,
            has_finalizer: false,
            request: None,
            adopt: None,
        },
        wanted: Ok(Wanted {
            app: app("ours"),
            app_name: None,
            seed: SeedView::None,
            schedule: None,
            initial: None,
            trigger: None,
            suspend: false,
            target: TargetStatus {
                name: TARGET.into(),
                key: "appCode".into(),
            },
            handover: Handover::default(),
            layout: Layout::default(),
        }),
        status: AppCodeRotationStatus::default(),
        target: TARGET.into(),
        secret: SecretView::Absent,
        former: SecretView::Absent,
        mirror: None,
        cloud: Cloud::NotAsked,
        shown_at: None,
        rollouts: None,
        marked: Vec::new(),
        finalizer_refused: None,
        siblings: Vec::new(),
        is_crowded: false,
        memory: Memory::default(),
        secret_refused: None,
        nudged: false,
        may_mutate: true,
        uptime: SignedDuration::ZERO,
        draw: DRAW,
    });
    model.codes = vec![code(1)];
    let step = model.pass();
    assert!(matches!(step, Some(Step::Rest { .. })), "{step:?}");
    model.o
}

#[test]
fn a_settled_resource_rests() {
    let o = settled();
    assert!(matches!(plan(&o, now()), Step::Rest { .. }));
}

/// A rotation by trigger that was marked long ago, whose base is gone and that two new codes may belong to; and a sibling
/// with the same trouble.
fn entangled() -> Observed {
    let mut o = settled();
    if let Ok(wanted) = &mut o.wanted {
        wanted.trigger = Some("go".into());
    }
    o.resource.generation = 2;
    o.cloud = Cloud::Read(AppReading {
        codes: vec![code(1), code(2)],
        ..o.reading().cloned().unwrap()
    });
    let Step::WriteIntent { record, .. } = plan(&o, now()) else {
        panic!("a rotation begins")
    };
    let SecretView::Ours(secret) = &mut o.secret else {
        panic!("it has its Secret")
    };
    secret.record = record;
    o.siblings = vec![Sibling {
        name: None,
        shares: Shares::App,
        is_older: true,
        created: now(),
        is_judged: true,
        standing: Standing::Authorized,
        holds: vec![code(2)],
        shown: None,
        open: Some(OpenSibling {
            base: Some(code(2)),
            marked_at: now(),
            adds: false,
        }),
    }];
    o.cloud = Cloud::Read(AppReading {
        codes: vec![code(3), code(4)],
        ..o.reading().cloned().unwrap()
    });
    o
}

#[test]
fn two_rotations_that_both_lost_their_codes_ask_a_person() {
    let mut o = entangled();
    let later = now() + LIMITS.settle_window * 4;
    assert!(
        matches!(plan(&o, now()), Step::Wait { .. }),
        "the other one may settle first"
    );
    let Step::Stop { reason, message, .. } = plan(&o, later) else {
        panic!("{:?}", plan(&o, later))
    };
    assert_eq!(reason, Reason::AmbiguousOutcome);
    assert!(
        message.contains(&code(3).short()) && message.contains(&code(4).short()),
        "{message}"
    );
    o.resource.adopt = Some(code(4).short());
    assert!(matches!(plan(&o, later), Step::WriteCode { code: taken, .. } if taken == code(4)));
}

#[test]
fn in_a_crowd_the_youngest_do_nothing() {
    let o = Observed {
        is_crowded: true,
        ..settled()
    };
    assert!(matches!(
        plan(&o, now()),
        Step::Stop {
            reason: Reason::Conflict,
            ..
        }
    ));
}
