use super::*;
use crate::api::{AppStatus, RotationStep};

fn tell(change: impl FnOnce(&mut Observed)) -> Story {
    let mut o = with(change);
    let wanted = wanted(&mut o).clone();
    Story::tell(&o, &wanted, now())
}

/// What the record and what status say: number, code and how long ago it became current.
fn both(record: (i64, Option<u8>, Option<i64>), status: (i64, Option<u8>, i64)) -> impl FnOnce(&mut Observed) {
    move |o| {
        let written = &mut ours(&mut o.secret).record;
        written.number = record.0;
        written.fingerprint = record.1.map(code);
        written.rotated_at = record.2.map(ago);
        o.status.rotation_number = Some(status.0);
        o.status.current = status.1.map(|number| crate::api::CurrentCode {
            fingerprint: code(number).short(),
            rotated_at: Time(ago(status.2)),
        });
    }
}

#[test]
fn the_current_code_and_its_time_are_those_of_the_higher_number() {
    let (full, short) = (|n: u8| code(n).to_string(), |n: u8| code(n).short());
    type Side = (i64, Option<u8>, Option<i64>);
    let cases: [(Side, (i64, Option<u8>, i64), Option<String>, Option<i64>); 10] = [
        ((2, Some(2), Some(50)), (1, Some(1), 90), Some(full(2)), Some(50)),
        ((2, Some(2), Some(90)), (1, Some(1), 50), Some(full(2)), Some(90)),
        ((2, Some(2), None), (1, Some(1), 50), Some(full(2)), None),
        ((2, None, Some(90)), (1, Some(1), 50), Some(short(1)), Some(90)),
        ((1, Some(2), Some(50)), (2, Some(1), 90), Some(short(1)), Some(90)),
        ((1, Some(2), Some(90)), (2, Some(1), 50), Some(short(1)), Some(50)),
        ((1, Some(2), Some(90)), (2, None, 50), Some(full(2)), None),
        ((1, Some(2), Some(90)), (1, Some(1), 50), Some(full(2)), Some(50)),
        ((1, Some(2), Some(50)), (1, Some(1), 90), Some(full(2)), Some(50)),
        ((1, None, None), (1, None, 50), None, None),
    ];
    for (record, status, current, rotated) in cases {
        let told = tell(both(record, status));
        assert_eq!(told.current, current, "{record:?} {status:?}");
        assert_eq!(told.rotated_at, rotated.map(ago), "{record:?} {status:?}");
        assert_eq!(told.number, record.0.max(status.0));
    }
    // A time in the future counts only where there is no other.
    assert_eq!(
        tell(both((1, Some(1), Some(-50)), (1, Some(1), 90))).rotated_at,
        Some(ago(90))
    );
    assert_eq!(
        tell(both((1, Some(1), Some(-50)), (0, Some(1), 90))).rotated_at,
        Some(now())
    );
}

#[test]
fn numbers_are_the_highest_that_stand_anywhere() {
    let told = tell(|o| {
        rotated(o, 2, 50);
        o.former = o.secret.clone();
        ours(&mut o.former).record.number = 1;
    });
    assert_eq!((told.number, told.highest), (2, 2));
    let told = tell(|o| {
        o.former = o.secret.clone();
        ours(&mut o.former).record.number = 4;
        let mut open = intent(&mut begun()).clone();
        open.number = 7;
        ours(&mut o.secret).record.intent = Some(open);
    });
    assert_eq!((told.number, told.highest), (4, 7));
    let told = tell(|o| {
        o.secret = SecretView::Absent;
        o.status.rotation_number = None;
    });
    assert_eq!((told.number, told.highest), (0, 0));
    let told = tell(|o| {
        o.secret = SecretView::Absent;
        o.status.rotation_number = Some(9);
    });
    assert_eq!((told.number, told.highest), (9, 9));
}

#[test]
fn a_value_counts_as_used_up_if_either_says_so() {
    let told = tell(|o| {
        let record = &mut ours(&mut o.secret).record;
        record.handled_trigger = Some("a".into());
        record.handled_request = Some("c".into());
        record.seed = Some(code(5));
        o.status.last_handled_trigger = Some("b".into());
        o.status.last_handled_request = Some("d".into());
        o.status.seed_fingerprint = Some(code(6).short());
        wanted(o).trigger = Some("b".into());
    });
    assert!(["a", "b"].iter().all(|value| told.is_trigger_handled(value)) && !told.is_trigger_handled("c"));
    assert!(["c", "d"].iter().all(|value| told.is_request_handled(value)) && !told.is_request_handled("a"));
    assert!([5, 6].iter().all(|number| told.is_seed(code(*number))) && !told.is_seed(code(7)));
    // The one that stands now is kept, else the record's.
    assert_eq!(told.handled_trigger.as_deref(), Some("b"));
    assert_eq!(told.handled_request.as_deref(), Some("c"));
    assert!(told.is_current(Some(code(1))) && !told.is_current(Some(code(2))) && !told.is_current(None));
    let mut none = told;
    none.current = None;
    assert!(!none.is_current(Some(code(1))));
}

#[test]
fn what_another_app_left_behind_is_not_ours() {
    let of = |app: AppIdentity| AppStatus {
        endpoint: app.endpoint.clone(),
        project_id: app.project_id.to_string(),
        app_id: app.app_id.to_string(),
    };
    let told = tell(|o| {
        ours(&mut o.secret).record.app = other_app();
        ours(&mut o.secret).record.seed = Some(code(5));
        o.status.seed_fingerprint = Some(code(6).short());
    });
    assert!(told.retargeted && told.current == Some(code(1).short()));
    assert!(!told.is_seed(code(5)) && told.is_seed(code(6)));
    let told = tell(|o| {
        o.status.app = Some(of(other_app()));
        o.status.current.as_mut().unwrap().rotated_at = Time(ago(-1));
        ours(&mut o.secret).record.rotated_at = Some(ago(70));
        ours(&mut o.secret).record.seed = Some(code(5));
        o.status.seed_fingerprint = Some(code(6).short());
    });
    assert!(told.retargeted && told.current == Some(code(1).to_string()) && told.rotated_at == Some(ago(70)));
    assert!(told.is_seed(code(5)) && !told.is_seed(code(6)));
    assert!(!tell(|_| {}).retargeted);
    assert!(!tell(|o| o.status.app = None).retargeted);
    let changes: [fn(&mut AppStatus); 3] = [
        |app| app.endpoint.push('x'),
        |app| app.project_id.push('x'),
        |app| app.app_id.push('x'),
    ];
    for change in changes {
        assert!(tell(|o| change(o.status.app.as_mut().unwrap())).retargeted);
    }
}

#[test]
fn each_kind_of_question_has_one_place() {
    let mut memory = Memory::default();
    let question = |attempt| Question::Outcome {
        rotation_id: crate::ids::RotationId::from_random(1),
        attempt,
    };
    let gone = |number| Question::NotListed {
        code: code(number).to_string(),
    };
    for asked in [question(1), gone(1), question(2)] {
        memory.begin_settling(Settling {
            question: asked,
            since: SignedDuration::ZERO,
            codes: Vec::new(),
        });
    }
    let is_asked = |asked: Question| memory.settling(&asked).is_some_and(|found| found.question == asked);
    assert!(!is_asked(question(1)) && is_asked(question(2)) && is_asked(gone(1)) && !is_asked(gone(2)));
    assert_eq!(memory.settling.len(), 2);
}

#[test]
fn of_two_secrets_the_one_with_the_higher_number_is_the_book() {
    let book = |target: Option<i64>, former: Option<i64>| {
        let view = |number: Option<i64>| {
            let mut view = settled().secret;
            number.map_or(SecretView::Absent, |number| {
                ours(&mut view).record.number = number;
                view
            })
        };
        let o = with(|o| (o.secret, o.former) = (view(target), view(former)));
        o.book().map(|(book, _)| book)
    };
    assert_eq!(book(Some(1), Some(1)), Some(Book::Target));
    assert_eq!(book(Some(2), Some(1)), Some(Book::Target));
    assert_eq!(book(Some(1), Some(2)), Some(Book::Former));
    assert_eq!(book(Some(1), None), Some(Book::Target));
    assert_eq!(book(None, Some(1)), Some(Book::Former));
    assert_eq!(book(None, None), None);
    let o = with(|o| {
        o.former = o.secret.clone();
        ours(&mut o.secret).is_inherited = true;
        ours(&mut o.former).record.number = -1;
    });
    assert_eq!(o.own_book().map(|secret| secret.record.number), Some(-1));
    assert!(o.secret.own().is_none() && o.secret.ours().is_some());
    assert!(
        o.reading().is_some()
            && Observed {
                cloud: Cloud::NotAsked,
                ..o
            }
            .reading()
            .is_none()
    );
}

#[test]
fn of_two_secrets_with_one_rotation_the_one_that_has_it_further_is_the_book() {
    let book = |target: RotationStep, former: RotationStep| {
        let mut o = begun();
        o.former = o.secret.clone();
        let set = |view: &mut SecretView, step| ours(view).record.intent.as_mut().unwrap().step = step;
        set(&mut o.secret, target);
        set(&mut o.former, former);
        o.book().map(|(book, _)| book)
    };
    assert_eq!(book(RotationStep::Started, RotationStep::Persisted), Some(Book::Former));
    assert_eq!(
        book(RotationStep::Persisted, RotationStep::Persisted),
        Some(Book::Target)
    );
    assert_eq!(book(RotationStep::Retiring, RotationStep::Started), Some(Book::Target));
    let mut o = begun();
    o.former = o.secret.clone();
    let other = ours(&mut o.former).record.intent.as_mut().unwrap();
    (other.rotation_id, other.step) = (crate::ids::RotationId::from_random(99), RotationStep::Retired);
    assert_eq!(
        o.book().map(|(book, _)| book),
        Some(Book::Target),
        "of another rotation"
    );
    let app = wanted(&mut o).app.clone();
    let forged = ours(&mut o.former).record.intent.as_mut().unwrap();
    (forged.number, forged.app.endpoint) = (1_000, "https://somewhere.else.example.com".into());
    assert_eq!(o.book().map(|(book, _)| book), Some(Book::Target), "of another app");
    ours(&mut o.former).record.intent.as_mut().unwrap().app = app;
    assert_eq!(o.book().map(|(book, _)| book), Some(Book::Former), "a later one");
}

#[test]
fn a_code_is_named_by_the_start_of_its_fingerprint() {
    let mut o = with(|o| list(o, &[1, 2]));
    let app = reading(&mut o).clone();
    assert_eq!(app.named(&code(1).short()), Some(code(1)));
    assert_eq!(app.named(&code(2).to_string()), Some(code(2)));
    assert_eq!(app.named(&code(3).short()), None);
    let twice = AppReading {
        codes: vec![code(1), code(1)],
        ..app
    };
    assert_eq!(twice.named(&code(1).short()), None, "two that it may mean");
}

#[test]
fn how_a_code_was_learned_is_told_by_who_holds_it() {
    use crate::api::Outcome;
    let mut o = begun();
    let open = intent(&mut o).clone();
    assert_eq!(o.memory.outcome(&open), Outcome::Recovered);
    o.memory.held = Some(Held {
        intent: open.clone(),
        code: code(2),
    });
    assert_eq!(o.memory.outcome(&open), Outcome::Completed);
    let other = Intent {
        rotation_id: crate::ids::RotationId::from_random(99),
        ..open
    };
    assert_eq!(o.memory.outcome(&other), Outcome::Recovered);
}

#[test]
fn a_secret_that_is_only_about_to_be_taken_over_says_nothing_yet() {
    let blank = |o: &mut Observed, view: fn(&mut Observed) -> &mut SecretView| {
        let record = Record::new(wanted(o).app.clone());
        let secret = ours(view(o));
        (secret.record, secret.is_inherited) = (record, true);
    };
    let mut o = with(|o| o.former = o.secret.clone());
    let book = |o: &Observed| o.book().map(|(book, _)| book);
    assert_eq!(book(&o), Some(Book::Target));
    blank(&mut o, |o| &mut o.secret);
    assert_eq!(book(&o), Some(Book::Former));
    blank(&mut o, |o| &mut o.former);
    assert_eq!(book(&o), Some(Book::Target));
}
