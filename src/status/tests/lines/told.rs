use pretty_assertions::assert_eq;

use super::*;
use crate::api::WorkloadKind;
use crate::workload::Rollout;

#[test]
fn a_check_is_worth_a_write_from_half_a_period_on() {
    let hour = SignedDuration::from_hours(1);
    let old = settled().status;
    let at = |seconds: Option<i64>| AppCodeRotationStatus {
        last_verified_time: seconds.map(|seconds| Time(now() + SignedDuration::from_secs(seconds))),
        ..old.clone()
    };
    for (before, after, expected) in [
        (Some(0), Some(1800), true),
        (Some(0), Some(1799), false),
        (Some(1800), Some(0), true),
        (None, Some(0), true),
        (Some(0), None, false),
        (None, None, false),
    ] {
        assert_eq!(
            is_worth_writing(&at(before), &at(after), hour),
            expected,
            "{before:?} {after:?}"
        );
    }
    let mut failing = old.clone();
    failing.failures = Some(Failures {
        consecutive: 1,
        last_reason: "Retrying".into(),
        last_message: String::new(),
        last_request_id: None,
        next_attempt_time: Some(Time(now())),
    });
    assert!(is_worth_writing(&old, &failing, hour));
    let mut later_attempt = failing.clone();
    later_attempt.failures.as_mut().unwrap().next_attempt_time = None;
    assert!(!is_worth_writing(&failing, &later_attempt, hour), "a time");
}

#[test]
fn that_all_is_well_again_is_told_after_a_stop_only() {
    let mut o = settled();
    assert_eq!(told(&o, &rest(), &folded(&o, &rest())), []);
    o.status = folded(&o, &stop(Reason::NotOwner, "another's"));
    assert_eq!(told(&o, &rest(), &folded(&o, &rest())), [Reason::CodeListed]);
    reading(&mut o).codes.clear();
    assert_eq!(
        told(&o, &wait(), &folded(&o, &wait())),
        [],
        "not stalled any more, and not ready"
    );
}

#[test]
fn a_failure_for_another_reason_is_told_again() {
    let mut o = settled();
    let slow = retry(Reason::Waiting, "slow", None);
    o.status = folded(&o, &slow);
    let step = retry(Reason::Retrying, "no answer", None);
    assert_eq!(told(&o, &step, &folded(&o, &step)), [Reason::Retrying]);
    assert_eq!(told(&o, &slow, &folded(&o, &slow)), []);
}

#[test]
fn a_failure_is_told_with_the_id_that_the_vendors_support_asks_for() {
    let text = |request_id: Option<&str>| {
        let mut o = settled();
        o.cloud = Cloud::Failed(Failure {
            reason: Reason::NotAuthorized,
            message: "refused".into(),
            request_id: request_id.map(str::to_owned),
            is_final: true,
            after: None,
        });
        let step = stop(Reason::NotAuthorized, "refused");
        let pass = pass(&o, &step);
        let notes = notes(pass, &o.status, &folded(&o, &step));
        notes[0].text.clone()
    };
    assert_eq!(text(None), "refused");
    let with_id = text(Some("request-1"));
    assert!(
        with_id.starts_with("refused ") && with_id.contains("request-1"),
        "{with_id}"
    );
}

#[test]
fn a_code_in_plain_text_is_told_once() {
    let mut o = settled();
    let shown = PlainCode("visible".into());
    let step = rest();
    let as_plain = |o: &Observed| {
        let pass = Pass {
            plain: Some(&shown),
            ..pass(o, &step)
        };
        let new = fold(pass, now());
        let told = notes(pass, &o.status, &new);
        (new, told.len())
    };
    let (new, told) = as_plain(&o);
    assert_eq!(told, 1);
    o.status = new;
    assert_eq!(as_plain(&o).1, 0);
}

#[test]
fn a_rotation_is_told_when_status_first_shows_it() {
    let told_of = |o: &Observed, happened: &[Happened]| {
        let step = rest();
        let pass = Pass {
            happened,
            ..pass(o, &step)
        };
        let new = fold(pass, later(60));
        notes(pass, &o.status, &new)
    };
    let wrote = |why| Happened::Wrote {
        code: code(2),
        why,
        intent: None,
        exposure_millis: None,
    };
    let mut o = completed();
    let notes = told_of(&o, &[]);
    assert_eq!(notes.len(), 1);
    let id = ours(&mut o).record.intent.clone().unwrap().rotation_id;
    let text = format!(
        "Rotated the code of app ours (trigger Spec, rotation {id}, number 1): Secret target holds the new code {}; {}, the one \
         before, is dead. The answer of the cloud was lost, and the code was found by reading the app.",
        code(2).short(),
        code(1).short()
    );
    let expected = Note {
        is_warning: false,
        reason: Reason::Rotated,
        action: "Rotate",
        text,
    };
    assert_eq!(notes[0], expected);
    assert_eq!(
        told_of(&o, &[wrote(WriteReason::Persist)]).len(),
        1,
        "once, whoever wrote it"
    );
    // A status that was wiped tells nothing new, unless this pass made it.
    o.status.rotation_number = None;
    assert_eq!(told_of(&o, &[]), []);
    assert_eq!(told_of(&o, &[wrote(WriteReason::Adopt)]).len(), 1, "the adoption alone");
    assert_eq!(told_of(&o, &[wrote(WriteReason::Persist)]).len(), 1);
    // Of a number whose intent is lost nothing is known.
    let mut o = completed();
    ours(&mut o).record.intent.as_mut().unwrap().number = 9;
    assert_eq!(told_of(&o, &[]), []);
    // Shown before.
    let mut o = completed();
    o.status = folded(&o, &rest());
    assert_eq!(told_of(&o, &[]), []);
}

/// The words that stand in the docs for what differs.
fn in_general(text: &str, o: &Observed) -> String {
    let id = o.intent().unwrap().rotation_id.to_string();
    let words = [
        (code(2).short(), "NEW"),
        (code(1).short(), "OLD"),
        (id, "ROTATION"),
        ("app ours".to_owned(), "app APP"),
        ("Secret target".to_owned(), "Secret SECRET"),
    ];
    let replace = |text: String, (from, to): &(String, &str)| text.replace(from, to);
    words.iter().fold(text.to_owned(), replace)
}

/// Every event that is not a message of a condition.
fn every_note() -> Vec<(Note, Observed)> {
    let mut all = Vec::new();
    let mut tell = |o: &Observed, step: &Step, happened: &[Happened]| {
        let pass = Pass {
            happened,
            ..pass(o, step)
        };
        let new = fold(pass, later(60));
        all.extend(notes(pass, &o.status, &new).into_iter().map(|note| (note, o.clone())));
    };
    let mut answered = completed();
    ours(&mut answered).record.intent.as_mut().unwrap().outcome = Some(Outcome::Completed);
    tell(&begun(), &wait(), &[]);
    tell(&answered, &rest(), &[]);
    let mut overlap = answered.clone();
    ours(&mut overlap).record.intent.as_mut().unwrap().strategy = Strategy::Overlap;
    tell(&overlap, &rest(), &[]);
    let mut shown = answered;
    shown.status = folded(&shown, &rest());
    let intent = shown.intent().unwrap().clone();
    let wrote = |why| Happened::Wrote {
        code: code(2),
        why,
        intent: None,
        exposure_millis: None,
    };
    let web = RestartTarget {
        kind: WorkloadKind::Deployment,
        name: "web".into(),
    };
    let happened = [
        wrote(WriteReason::Adopt),
        wrote(WriteReason::Repair),
        wrote(WriteReason::Render),
        Happened::Abandoned(intent.clone()),
        Happened::NotRetired(intent.clone()),
        Happened::Restarted(web.clone()),
    ];
    tell(&shown, &rest(), &happened);
    let mut rolled_out = shown.clone();
    wanted(&mut rolled_out).handover.restarts = vec![web.clone()];
    rolled_out.rollouts = Some(vec![(web, Rollout::Done)]);
    tell(&rolled_out, &rest(), &[]);
    let mut gone = shown.clone();
    ours(&mut gone).record.intent = Some(intent.retired(false));
    tell(&gone, &rest(), &[]);
    let mut stopped = shown.clone();
    stopped.status = folded(&stopped, &stop(Reason::NotOwner, "another's"));
    tell(&stopped, &rest(), &[]);
    let mut away = shown;
    away.cloud = Cloud::NotAsked;
    away.status.last_verified_time = Some(Time(later(-4 * 3600)));
    let held_back = Step::BackOff {
        after: SignedDuration::from_secs(1),
    };
    tell(&away, &held_back, &[]);
    all
}

#[test]
fn each_event_is_told_in_the_words_of_the_docs() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/events.md")).unwrap();
    let mut reasons = std::collections::BTreeSet::new();
    for (note, o) in every_note() {
        let text = in_general(&note.text, &o);
        let is_row = |row: &str| {
            row.starts_with(&format!("| `{}` |", note.reason.as_str())) && row.ends_with(&format!("| {text} |"))
        };
        assert!(page.lines().any(is_row), "{:?}: {text}", note.reason);
        assert!(note.text.len() < 500, "{note:?}");
        reasons.insert(note.reason);
    }
    let expected = [
        Reason::Adopted,
        Reason::Rotating,
        Reason::Rotated,
        Reason::Restarted,
        Reason::RolledOut,
        Reason::Retired,
        Reason::NotRetired,
        Reason::Repaired,
        Reason::Rendered,
        Reason::CodeListed,
        Reason::NotVerified,
        Reason::Abandoned,
    ];
    assert_eq!(reasons, expected.into_iter().collect());
}

#[test]
fn a_rotation_that_its_pass_could_not_complete_is_told_as_begun_and_once() {
    let mut o = begun();
    let new = folded(&o, &wait());
    assert_eq!(told(&o, &wait(), &new), [Reason::Rotating]);
    o.status = new;
    assert_eq!(told(&o, &wait(), &folded(&o, &wait())), []);
    let before = o.status.rotation.as_mut().unwrap();
    let id = std::mem::replace(&mut before.rotation_id, "another".into());
    assert_eq!(told(&o, &wait(), &folded(&o, &wait())), [Reason::Rotating]);
    o.status.rotation.as_mut().unwrap().rotation_id = id;
    // With `Overlap` status shows it before the call; then the pass that marked it tells.
    let happened = [Happened::Began(o.intent().unwrap().clone())];
    let step = wait();
    let pass = Pass {
        happened: &happened,
        ..pass(&o, &step)
    };
    let reasons: Vec<_> = notes(pass, &o.status, &folded(&o, &step))
        .into_iter()
        .map(|note| note.reason)
        .collect();
    assert_eq!(reasons, [Reason::Rotating]);
    let done = completed();
    assert_eq!(told(&done, &rest(), &folded(&done, &rest())), [Reason::Rotated]);
}

#[test]
fn the_end_of_a_failure_is_told_once_it_works_again() {
    let mut o = settled();
    let slow = retry(Reason::Retrying, "no answer", None);
    o.status = folded(&o, &slow);
    assert_eq!(told(&o, &rest(), &folded(&o, &rest())), [Reason::CodeListed]);
    // Something else is awaited first.
    let waits = Step::Linger {
        reason: Reason::Retiring,
        message: "still works".into(),
        after: SignedDuration::from_secs(9),
    };
    let new = folded(&o, &waits);
    assert_eq!(told(&o, &waits, &new), [Reason::CodeListed]);
    o.status = new;
    assert_eq!(told(&o, &waits, &folded(&o, &waits)), []);
    assert_eq!(told(&o, &rest(), &folded(&o, &rest())), [], "told before");
}

#[test]
fn what_happened_is_told_though_the_status_could_not_be_written() {
    let o = completed();
    let intent = o.intent().unwrap().clone();
    let happened = [Happened::Began(intent.clone()), Happened::Abandoned(intent)];
    let step = rest();
    let pass = Pass {
        happened: &happened,
        ..pass(&o, &step)
    };
    let reasons: Vec<_> = happened_notes(pass).into_iter().map(|note| note.reason).collect();
    assert_eq!(
        reasons,
        [Reason::Abandoned],
        "the rotation is told by the pass that shows it"
    );
}
