use pretty_assertions::assert_eq;

use super::*;

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
        "Rotated the code of app ours (trigger Spec, rotation {id}, number 1); its fingerprint is now {}.",
        code(2).short()
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

#[test]
fn what_happened_is_told_in_its_own_words() {
    let o = completed();
    let intent = o.secret.ours().unwrap().record.intent.clone().unwrap();
    let wrote = |why| Happened::Wrote {
        code: code(2),
        why,
        intent: None,
        exposure_millis: None,
    };
    let words = [
        (wrote(WriteReason::Persist), None),
        (
            wrote(WriteReason::Adopt),
            Some((false, Reason::Adopted, "Took over code")),
        ),
        (
            wrote(WriteReason::Repair),
            Some((false, Reason::Repaired, "into the Secret again")),
        ),
        (
            Happened::Abandoned(intent),
            Some((true, Reason::Abandoned, "because the resource names another app now")),
        ),
    ];
    for (happened, expected) in words {
        let note = happened_note(&happened, "ours");
        let short = note.as_ref().map(|note| (note.is_warning, note.reason));
        assert_eq!(
            short,
            expected.map(|(is_warning, reason, _)| (is_warning, reason)),
            "{happened:?}"
        );
        if let (Some(note), Some((_, _, words))) = (note, expected) {
            assert!(note.text.contains(words), "{note:?}");
        }
    }
}
