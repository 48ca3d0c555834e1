use pretty_assertions::assert_eq;

use super::*;

#[test]
fn ready_says_what_is_known_of_the_code() {
    use Reason::{CodeListed, NotVerified, Retrying, Rotating, Settling, Suspended, Waiting};
    fn fresh(o: &mut Observed) {
        o.secret = SecretView::Absent;
        o.status = AppCodeRotationStatus {
            observed_generation: Some(1),
            ..AppCodeRotationStatus::default()
        };
    }
    fn old(o: &mut Observed) {
        o.cloud = Cloud::NotAsked;
        o.status.last_verified_time = Some(Time(later(-3 * 3600 - 600)));
    }
    let fails = retry(Retrying, "no answer", None);
    type Case = (
        &'static str,
        fn() -> Observed,
        fn(&mut Observed),
        Step,
        &'static str,
        Reason,
    );
    let cases: Vec<Case> = vec![
        ("listed", settled, |_| {}, rest(), "True", CodeListed),
        (
            "listed, while another try fails",
            settled,
            |_| {},
            fails.clone(),
            "True",
            CodeListed,
        ),
        (
            "listed, while something is waited for",
            settled,
            |_| {},
            wait(),
            "True",
            CodeListed,
        ),
        (
            "asked lately",
            settled,
            |o| o.cloud = Cloud::NotAsked,
            rest(),
            "True",
            CodeListed,
        ),
        (
            "waiting, not asked",
            settled,
            |o| o.cloud = Cloud::NotAsked,
            wait(),
            "Unknown",
            Settling,
        ),
        (
            "failing, not asked",
            settled,
            |o| o.cloud = Cloud::NotAsked,
            fails.clone(),
            "True",
            CodeListed,
        ),
        (
            "failing at a new generation",
            settled,
            |o| {
                o.cloud = Cloud::NotAsked;
                o.resource.generation = 2;
            },
            fails.clone(),
            "False",
            Retrying,
        ),
        (
            "a new generation that nobody asked about",
            settled,
            |o| {
                o.cloud = Cloud::NotAsked;
                o.resource.generation = 2;
            },
            rest(),
            "False",
            Waiting,
        ),
        (
            "failing before the first code",
            settled,
            fresh,
            fails.clone(),
            "False",
            Retrying,
        ),
        ("asked long ago", settled, old, rest(), "Unknown", NotVerified),
        (
            "asked by a clock that ran ahead",
            settled,
            |o| {
                o.cloud = Cloud::NotAsked;
                o.status.last_verified_time = Some(Time(later(3600)));
            },
            rest(),
            "Unknown",
            NotVerified,
        ),
        (
            "the Secret was emptied since",
            settled,
            |o| {
                o.cloud = Cloud::NotAsked;
                ours(o).code = None;
            },
            rest(),
            "Unknown",
            NotVerified,
        ),
        (
            "unknown before, failing still",
            settled,
            |o| {
                old(o);
                let status = &mut o.status;
                set_condition(status, ConditionType::Ready, "Unknown", NotVerified, "", now());
            },
            fails.clone(),
            "Unknown",
            NotVerified,
        ),
        (
            "unknown for another reason, failing",
            settled,
            |o| {
                o.cloud = Cloud::NotAsked;
                set_condition(&mut o.status, ConditionType::Ready, "Unknown", Settling, "", now());
            },
            fails,
            "False",
            Retrying,
        ),
        ("open", begun, |_| {}, Step::AskCloud, "Unknown", Rotating),
        ("nothing taken over", settled, fresh, rest(), "False", Waiting),
        (
            "nothing taken over, and held",
            settled,
            |o| {
                fresh(o);
                wanted(o).suspend = true;
            },
            rest(),
            "False",
            Suspended,
        ),
        (
            "stopped",
            settled,
            |_| {},
            stop(Reason::NotOwner, "another's"),
            "False",
            Reason::NotOwner,
        ),
    ];
    for (name, start, change, step, value, reason) in cases {
        let mut o = start();
        change(&mut o);
        assert_eq!(
            condition(&folded(&o, &step), ConditionType::Ready),
            said(value, reason),
            "{name}"
        );
    }
}

#[test]
fn reconciling_and_stalled_say_what_goes_on() {
    let of = |o: &Observed, step: &Step| {
        let new = folded(o, step);
        let reconciling = new.condition(ConditionType::Reconciling).unwrap();
        let told = (
            reconciling.status.clone(),
            reconciling.reason.clone(),
            reconciling.message.clone(),
        );
        (told, condition(&new, ConditionType::Stalled))
    };
    let told =
        |value: &str, reason: Reason, message: &str| (value.to_owned(), reason.as_str().to_owned(), message.to_owned());
    let idle = said("False", Reason::Idle);
    let o = settled();
    let manual = "No schedule is set: a rotation comes when it is asked for.";
    let nothing = format!("Nothing is under way. {manual}");
    assert_eq!(of(&o, &rest()), (told("False", Reason::Idle, &nothing), idle.clone()));
    assert_eq!(
        of(&o, &wait()),
        (told("True", Reason::Settling, "not clear yet"), idle.clone())
    );
    let failing = retry(Reason::Retrying, "no answer", None);
    assert_eq!(
        of(&o, &failing),
        (told("True", Reason::Retrying, "no answer"), idle.clone())
    );
    let stopped = stop(Reason::NotOwner, "another's");
    let expected = (
        told("False", Reason::Idle, "Nothing is under way."),
        said("True", Reason::NotOwner),
    );
    assert_eq!(of(&o, &stopped), expected);
    let held = with(|o| wanted(o).suspend = true);
    let message = format!("Changes are held by spec.suspend. {manual}");
    assert_eq!(
        of(&held, &rest()),
        (told("False", Reason::Suspended, &message), idle.clone())
    );
    let scheduled = with(|o| wanted(o).schedule = Some(hourly()));
    let message =
        "Nothing is under way. The next rotation by the schedule comes 1h after the present code became current.";
    assert_eq!(of(&scheduled, &rest()), (told("False", Reason::Idle, message), idle));
}

#[test]
fn authorized_is_said_only_where_the_cloud_said_something_of_it() {
    let of = |change: &dyn Fn(&mut Observed)| {
        let o = with(|o| {
            o.status.conditions.clear();
            change(o);
        });
        condition(&folded(&o, &rest()), ConditionType::Authorized)
    };
    let failed = |shown_at, reason| {
        of(&move |o: &mut Observed| {
            o.shown_at = shown_at;
            o.cloud = Cloud::Failed(Failure {
                reason,
                message: "no".into(),
                request_id: None,
                is_final: true,
                after: None,
            });
        })
    };
    let refused = |reason| failed(None, reason);
    assert_eq!(of(&|_| {}), said("True", Reason::CredentialsAccepted));
    assert_eq!(of(&|o| reading(o).masked = true), None);
    assert_eq!(of(&|o| o.cloud = Cloud::NotAsked), None);
    for reason in [
        Reason::CredentialsMissing,
        Reason::CredentialsRejected,
        Reason::NotAuthorized,
        Reason::AppNotFound,
    ] {
        assert_eq!(refused(reason), said("False", reason));
    }
    assert_eq!(refused(Reason::Retrying), None);
    // What it has shown in the same pass proves the right, whatever came of a later call.
    let after_reading = |reason| failed(Some(SignedDuration::ZERO), reason);
    let accepted = said("True", Reason::CredentialsAccepted);
    assert_eq!(after_reading(Reason::InvalidSpec), accepted);
    assert_eq!(
        after_reading(Reason::NotAuthorized),
        said("False", Reason::NotAuthorized)
    );
    assert_eq!(
        of(&|o| (o.cloud, o.shown_at) = (Cloud::NotAsked, Some(SignedDuration::ZERO))),
        accepted
    );
}

#[test]
fn before_a_call_status_says_that_the_resource_counts() {
    let mut status = folded(&settled(), &stop(Reason::CredentialsMissing, "none"));
    set_condition(
        &mut status,
        ConditionType::Authorized,
        "False",
        Reason::CredentialsMissing,
        "none",
        now(),
    );
    accept(&mut status, now());
    assert_eq!(
        condition(&status, ConditionType::Authorized),
        said("True", Reason::CredentialsAccepted)
    );
    assert_eq!(condition(&status, ConditionType::Stalled), said("False", Reason::Idle));
}

#[test]
fn secret_synced_says_whether_the_code_is_there() {
    let of = |o: &Observed, step: &Step| condition(&folded(o, step), ConditionType::SecretSynced);
    let edited = with(|o| ours(o).code = None);
    assert_eq!(of(&settled(), &rest()), said("True", Reason::CodeListed));
    assert_eq!(
        of(&settled(), &stop(Reason::NotOwner, "another's")),
        said("True", Reason::CodeListed)
    );
    assert_eq!(of(&edited, &rest()), said("False", Reason::Waiting));
    let stopped = stop(Reason::SecretConflict, "foreign");
    assert_eq!(of(&edited, &stopped), said("False", Reason::SecretConflict));
    // Nothing else goes with the condition that is removed.
    assert_eq!(
        folded(&settled(), &rest()).conditions.len(),
        settled().status.conditions.len()
    );
}

#[test]
fn the_phase_is_the_first_thing_that_a_person_wants_to_know() {
    let phase = |o: &Observed, step: &Step| folded(o, step).phase.unwrap();
    let held = |start: fn() -> Observed| {
        let mut o = start();
        wanted(&mut o).suspend = true;
        o
    };
    assert_eq!(
        phase(&held(begun), &stop(Reason::NotOwner, "another's")),
        Phase::Stalled
    );
    assert_eq!(phase(&held(begun), &rest()), Phase::Suspended);
    assert_eq!(phase(&begun(), &rest()), Phase::Rotating);
    assert_eq!(phase(&settled(), &rest()), Phase::Ready);
    assert_eq!(phase(&with(|o| reading(o).codes.clear()), &wait()), Phase::Pending);
}

#[test]
fn conditions_of_other_kinds_are_left_alone() {
    let mut status = AppCodeRotationStatus::default();
    for (kind, value) in [
        (ConditionType::Ready, "True"),
        (ConditionType::Stalled, "False"),
        (ConditionType::Ready, "False"),
    ] {
        set_condition(&mut status, kind, value, Reason::Idle, value, now());
    }
    let all: Vec<_> = status
        .conditions
        .iter()
        .map(|it| (it.type_.as_str(), it.status.as_str()))
        .collect();
    assert_eq!(all, [("Ready", "False"), ("Stalled", "False")]);
}
