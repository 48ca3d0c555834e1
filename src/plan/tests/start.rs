use super::*;
use crate::api::{AppStatus, InitialRotation, Trigger};
use crate::intent::Consumed;

#[test]
fn a_start_takes_the_code_over_or_rotates_it() {
    check(
        fresh,
        &[
            ("one code", |_| {}, "create"),
            ("named in a Secret", |o| seed(o, 1, false), "create"),
            ("exposed in the spec", |o| seed(o, 1, true), "intent"),
            ("no code", |o| list(o, &[]), "intent"),
            (
                "asked for",
                |o| wanted(o).initial = Some(InitialRotation::Immediate),
                "intent",
            ),
            (
                "exposed, and to wait",
                |o| {
                    seed(o, 1, true);
                    wanted(o).initial = Some(InitialRotation::WhenDue);
                },
                "create",
            ),
            (
                "no code, and to wait",
                |o| {
                    list(o, &[]);
                    wanted(o).initial = Some(InitialRotation::WhenDue);
                },
                "rest",
            ),
            ("with a trigger there from the start", ask, "create"),
            ("several codes", |o| list(o, &[1, 2]), "stop AppCodeAmbiguous"),
            (
                "several codes, and an answer",
                |o| {
                    list(o, &[1, 2]);
                    o.resource.adopt = Some(code(2).short());
                },
                "create",
            ),
            (
                "several codes, and a wrong answer",
                |o| {
                    list(o, &[1, 2]);
                    o.resource.adopt = Some(code(3).short());
                },
                "stop AppCodeAmbiguous",
            ),
            (
                "the seed cannot be read",
                |o| wanted(o).seed = SeedView::Unreadable("no".into()),
                "stop SeedUnreadable",
            ),
            ("a seed that is not listed", |o| seed(o, 2, false), "settle"),
        ],
    );
    let stopped = plan(&with_seed_gone(), now());
    assert_eq!(word(&stopped), "stop CodeNotListed");
    assert!(message(&stopped).starts_with("The seed is not among"), "{stopped:?}");
    assert!(!message(&stopped).contains(&code(2).short()), "{stopped:?}");
}

fn with_seed_gone() -> Observed {
    let mut o = fresh();
    seed(&mut o, 2, false);
    settle(&mut o, gone(2), 120);
    o
}

#[test]
fn what_a_start_writes_takes_trigger_and_request_as_they_are() {
    let mut o = fresh();
    ask(&mut o);
    o.resource.request = Some("please".into());
    seed(&mut o, 1, false);
    let Step::CreateSecret { secret, record } = plan(&o, now()) else {
        panic!("{:?}", plan(&o, now()))
    };
    let expected = Record {
        fingerprint: Some(code(1)),
        seed: Some(code(1)),
        handled_trigger: Some("go".into()),
        handled_request: Some("please".into()),
        ..Record::new(wanted(&mut o).app.clone())
    };
    assert_eq!((secret.as_str(), record), ("target", expected));
    wanted(&mut o).initial = Some(InitialRotation::Immediate);
    let (_, intent) = started(&o);
    let consumed = Consumed {
        trigger: Some("go".into()),
        request: Some("please".into()),
        seed: Some(code(1)),
    };
    assert_eq!((intent.trigger, intent.consumed), (Trigger::Initial, consumed));
}

#[test]
fn another_app_is_a_start_by_rotation() {
    let o = with(|o| {
        let app = other_app();
        o.status.app = Some(AppStatus {
            endpoint: app.endpoint.clone(),
            project_id: app.project_id.to_string(),
            app_id: app.app_id.to_string(),
        });
        rotated(o, 3, 700);
        let record = &mut ours(&mut o.secret).record;
        record.app = app;
        record.handled_trigger = Some("before".into());
        record.handled_request = Some("earlier".into());
    });
    let (record, intent) = started(&o);
    assert_eq!((intent.trigger, intent.base), (Trigger::Target, Some(code(1))));
    assert_eq!((record.fingerprint, record.rotated_at), (None, None));
    // Numbers and what was used up go on.
    assert_eq!((record.number, intent.number), (3, 4));
    assert_eq!(record.handled_trigger.as_deref(), Some("before"));
    assert_eq!(record.handled_request.as_deref(), Some("earlier"));
}

#[test]
fn of_several_codes_a_start_takes_the_one_that_stands_in_the_secret_it_takes_over() {
    let start = || {
        let mut o = fresh();
        list(&mut o, &[1, 2]);
        wanted(&mut o).layout.creation = CreationPolicy::Adopt;
        let mut taken = settled();
        let secret = ours(&mut taken.secret);
        secret.record = Record::new(wanted(&mut o).app.clone());
        (secret.code, secret.is_inherited) = (Some(code(2)), true);
        o.secret = taken.secret;
        o
    };
    check(
        start,
        &[
            ("one of them", |_| {}, "write Adopt"),
            (
                "none of them",
                |o| ours(&mut o.secret).code = Some(code(3)),
                "stop AppCodeAmbiguous",
            ),
            (
                "it may not be taken over",
                |o| wanted(o).layout.creation = CreationPolicy::Create,
                "stop AppCodeAmbiguous",
            ),
        ],
    );
    assert!(matches!(plan(&start(), now()), Step::WriteCode { code: taken, .. } if taken == code(2)));
}

#[test]
fn an_answer_is_on_record_once_it_was_taken() {
    let mut o = fresh();
    list(&mut o, &[1, 2]);
    o.resource.adopt = Some(code(2).short());
    let Step::CreateSecret { record, .. } = plan(&o, now()) else {
        panic!("{:?}", plan(&o, now()))
    };
    assert_eq!((record.fingerprint, record.adopted), (Some(code(2)), Some(code(2))));
}
