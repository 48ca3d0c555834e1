//! Where the lines are between a Secret that is ours and one that is not, and between a record and none.
#![allow(
    clippy::items_after_statements,
    clippy::too_many_lines,
    clippy::type_complexity,
    clippy::unnecessary_wraps,
    reason = "a table is as long as its cases, and what makes and what tells one stands beside it"
)]

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::record::*;
use super::*;
use crate::api::{Outcome, RotationStep, Strategy, Trigger};
use crate::ids::{AppId, ProjectId, RotationId};
use crate::intent::{Call, Consumed, FORMAT_VERSION, Intent};

fn app(id: &str) -> AppIdentity {
    AppIdentity {
        endpoint: "https://modelarts.example.com:8443".into(),
        project_id: ProjectId::parse("project").unwrap(),
        app_id: AppId::parse(id).unwrap(),
    }
}

fn print(code: &str) -> Fingerprint {
    Fingerprint::of(&app("app").app_id, code)
}

fn intent(number: i64, step: RotationStep) -> Intent {
    Intent {
        format_version: FORMAT_VERSION,
        rotation_id: RotationId::from_random(7),
        number,
        uid: "uid".into(),
        generation: 1,
        trigger: Trigger::Spec,
        consumed: Consumed::default(),
        strategy: Strategy::Reset,
        step,
        app: app("app"),
        base: Some(print("old")),
        call: Call::Reset,
        known: vec![print("old")],
        unclaimed: Vec::new(),
        attempt: 1,
        updated_at: None,
        started_at: Timestamp::UNIX_EPOCH,
        marked_at: Timestamp::UNIX_EPOCH,
        outcome: (step == RotationStep::Persisted).then_some(Outcome::Completed),
        distribution: None,
    }
}

/// A record with a value for each annotation.
fn full() -> Record {
    let second = |second| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second);
    Record {
        app: app("app"),
        number: 4,
        fingerprint: Some(print("code")),
        previous: Some(print("old")),
        rotated_at: Some(second(5)),
        seed: Some(print("seed")),
        handled_trigger: Some("trigger".into()),
        handled_request: Some("request".into()),
        recent: vec![second(1), second(2)],
        intent: Some(intent(4, RotationStep::Persisted)),
        adopted: None,
        rendered: None,
    }
}

fn secret(change: impl FnOnce(&mut Secret)) -> Secret {
    let mut secret = new_secret("ns", "name", "ns/name", &full(), First::default());
    secret.metadata.resource_version = Some("42".into());
    secret.data = Some(BTreeMap::from([("appCode".to_owned(), ByteString(b"code".to_vec()))]));
    change(&mut secret);
    secret
}

fn look(secret: &Secret) -> SecretView {
    let app = app("app");
    let asker = Asker::of("ns/name", &app, "appCode");
    view(Some(secret), asker)
}

fn ours(change: impl FnOnce(&mut Secret)) -> OurSecret {
    match look(&secret(change)) {
        SecretView::Ours(ours) => ours,
        other => panic!("not ours: {other:?}"),
    }
}

fn annotate(secret: &mut Secret, key: &str, value: &str) {
    let annotations = secret.metadata.annotations.as_mut().unwrap();
    annotations.insert(key.to_owned(), value.to_owned());
}

#[test]
fn a_record_reads_back_each_of_its_values() {
    let read = ours(|_| {});
    assert_eq!(read.record, full());
    assert_eq!((read.resource_version.as_str(), read.code), ("42", Some(print("code"))));
    assert!(read.is_in_sync() && !read.is_inherited && read.locked.is_none());
    // Empty is as good as absent: a merge by hand leaves such values.
    let empty = ours(|secret| {
        for key in [
            FINGERPRINT,
            PREVIOUS,
            ROTATED_AT,
            SEED,
            HANDLED_TRIGGER,
            HANDLED_REQUEST,
            RECENT,
            INTENT,
            NUMBER,
        ] {
            annotate(secret, key, "");
        }
    });
    assert_eq!(empty.record, Record::new(app("app")));
}

#[test]
fn numbers_that_we_cannot_have_counted_are_not_believed() {
    let number = |number: i64| look(&secret(|secret| annotate(secret, NUMBER, &number.to_string())));
    let limit = 1_152_921_504_606_846_976;
    for good in [0, 1, limit] {
        assert!(
            matches!(number(good), SecretView::Ours(ours) if ours.record.number == good),
            "{good}"
        );
    }
    for bad in [-1, limit + 1] {
        assert!(matches!(number(bad), SecretView::Unreadable(_)), "{bad}");
    }
    let of_intent = |number| {
        look(&secret(|secret| {
            annotate(secret, INTENT, &intent(number, RotationStep::Started).to_text());
        }))
    };
    assert!(matches!(of_intent(limit), SecretView::Ours(_)));
    assert!(matches!(of_intent(limit + 1), SecretView::Unreadable(_)));
}

#[test]
fn an_intent_is_open_above_every_completed_number() {
    let open = |number, step, completed| {
        let record = Record {
            intent: Some(intent(number, step)),
            ..full()
        };
        record.open_intent(completed).is_some()
    };
    use RotationStep::{Persisted, Started};
    assert!(open(5, Started, 0) && open(5, Started, 4));
    assert!(!open(5, Started, 5) && !open(4, Started, 0) && !open(5, Persisted, 0));
    let highest = |number, intent: Option<Intent>| {
        let record = Record {
            number,
            intent,
            ..full()
        };
        record.highest_number()
    };
    assert_eq!(highest(4, None), 4);
    assert_eq!(highest(4, Some(intent(7, Started))), 7);
    assert_eq!(highest(9, Some(intent(7, Started))), 9);
}

#[test]
fn a_secret_is_locked_for_what_forbids_to_write_it() {
    assert_eq!(ours(|secret| secret.immutable = Some(false)).locked, None);
    assert_eq!(
        ours(|secret| secret.immutable = Some(true)).locked,
        Some(Lock::Immutable)
    );
    let going = ours(|secret| secret.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH)));
    assert_eq!(going.locked, Some(Lock::Going));
    assert_eq!(ours(|secret| secret.type_ = None).locked, None);
    let typed = ours(|secret| secret.type_ = Some("kubernetes.io/tls".into()));
    assert_eq!(
        (typed.locked, typed.unfit),
        (None, Some(Unfit::Kind(SecretType::Opaque)))
    );
    let SecretView::Ours(strict) = SecretView::Ours(typed).strict() else {
        panic!("not ours")
    };
    assert_eq!(
        (strict.locked, strict.unfit),
        (Some(Lock::Kind(SecretType::Opaque)), None)
    );
    // A Secret that spec names no longer may have any type that an earlier spec can have asked for.
    let app = app("app");
    let former = |kind: &str| {
        let secret = secret(|secret| secret.type_ = Some(kind.into()));
        let asker = Asker {
            creation: None,
            ..Asker::of("ns/name", &app, "appCode")
        };
        view(Some(&secret), asker).ours().unwrap().unfit
    };
    assert_eq!((former("Opaque"), former("kubernetes.io/basic-auth")), (None, None));
    assert!(former("kubernetes.io/tls").is_some());
}

#[test]
fn the_label_and_the_resource_say_whose_it_is() {
    let label = |by: &str| {
        let by = by.to_owned();
        secret(move |secret| {
            secret.metadata.labels.as_mut().unwrap().insert(MANAGED_BY.into(), by);
        })
    };
    assert!(matches!(look(&label(MANAGER)), SecretView::Ours(_)));
    let lacks = "it lacks the label app.kubernetes.io/managed-by: appcode-operator, as one does that others made";
    assert_eq!(look(&label("helm")).strict(), SecretView::Foreign { why: lacks });
    // A rotation that is open on it is followed all the same.
    assert!(matches!(look(&label("helm")).ours(), Some(ours) if ours.unfit == Some(Unfit::Foreign(lacks))));
    assert_eq!(keeper(&label(MANAGER)), Some("ns/name"));
    assert_eq!(
        keeper(&label("helm")),
        Some("ns/name"),
        "one that others keep bears no label of ours"
    );
    let nobody = secret(|secret| secret.metadata.annotations = None);
    assert_eq!(keeper(&nobody), None);
    let other = secret(|secret| annotate(secret, RESOURCE, "ns/other"));
    assert_eq!(
        look(&other),
        SecretView::Foreign {
            why: "it belongs to another AppCodeRotation"
        }
    );
    assert_eq!(keeper(&other), Some("ns/other"));
    let asker = |app, former_app| Asker {
        former_app,
        ..Asker::of("ns/name", app, "other-key")
    };
    let foreign = SecretView::Foreign {
        why: "it was made for another app",
    };
    let (new, third) = (app("new"), app("third"));
    assert_eq!(view(Some(&secret(|_| {})), asker(&new, None)), foreign);
    assert_eq!(view(Some(&secret(|_| {})), asker(&new, Some(&third))), foreign);
    // Under another key there is no code.
    let former = app("app");
    let read = view(Some(&secret(|_| {})), asker(&new, Some(&former)));
    assert!(matches!(read.ours(), Some(ours) if ours.code.is_none() && !ours.is_in_sync()));
    assert_eq!(view(None, asker(&new, None)), SecretView::Absent);
}

#[test]
fn in_sync_is_a_code_that_is_the_recorded_one() {
    let edited = ours(|secret| {
        let data = secret.data.as_mut().unwrap();
        data.insert("appCode".into(), ByteString(b"other".to_vec()));
    });
    assert!(edited.code.is_some() && !edited.is_in_sync());
    // No code and none recorded is no agreement.
    let none = OurSecret {
        code: None,
        record: Record {
            fingerprint: None,
            ..full()
        },
        ..edited
    };
    assert!(!none.is_in_sync());
}

#[test]
fn what_is_only_about_to_be_taken_over_is_not_ones_own() {
    let mut view = look(&secret(|_| {}));
    assert!(view.own().is_some() && view.ours().is_some());
    if let SecretView::Ours(secret) = &mut view {
        secret.is_inherited = true;
    }
    assert!(view.own().is_none() && view.ours().is_some());
    // It is blank while nobody has recorded anything on it.
    let of = |is_inherited, record| OurSecret {
        record,
        is_inherited,
        ..ours(|_| {})
    };
    let new = || Record::new(app("app"));
    assert!(of(true, new()).is_blank() && !of(true, full()).is_blank() && !of(false, new()).is_blank());
}

#[test]
fn what_another_object_controls_is_merged_into_at_most() {
    use CreationPolicy::{Adopt, Create, Merge};
    let taken_over = |creation, is_controlled: bool| {
        let owner = json!({"apiVersion": "v1", "kind": "A", "name": "a", "uid": "1", "controller": is_controlled});
        let secret: Secret = serde_json::from_value(json!({"metadata": {"ownerReferences": [owner]}})).unwrap();
        let app = app("app");
        let asker = Asker {
            creation: Some(creation),
            ..Asker::of("ns/name", &app, "appCode")
        };
        view(Some(&secret), asker)
    };
    assert!(taken_over(Adopt, false).ours().is_some() && taken_over(Adopt, true).ours().is_none());
    assert!(taken_over(Merge, true).ours().is_some());
    let why = "it was not made by this operator";
    assert_eq!(taken_over(Create, false), SecretView::Foreign { why });
}

#[test]
fn the_code_before_works_while_it_is_listed_and_still_to_be_retired() {
    let record = |step, fingerprint| Record {
        fingerprint: Some(print(fingerprint)),
        intent: Some(Intent {
            strategy: Strategy::Overlap,
            ..intent(4, step)
        }),
        ..full()
    };
    use RotationStep::{Distributed, Retired};
    let both = [print("code"), print("old")];
    let works = |record: &Record, listed: &[Fingerprint]| record.working_previous(listed).is_some();
    assert_eq!(record(Distributed, "code").working_previous(&both), Some(print("old")));
    assert!(!works(&record(Distributed, "code"), &[print("code")]));
    assert!(!works(&record(Retired, "code"), &both));
    assert!(
        !works(&record(Distributed, "old"), &both),
        "a restored Secret holds it as its own"
    );
    // What is rendered depends on it.
    let shape = |layout: &Layout, step| record(step, "code").shape(layout, "appCode", None, &both);
    let layout = Layout {
        previous_key: Some("previous".into()),
        ..Layout::default()
    };
    assert!(shape(&layout, Retired).is_some());
    assert_ne!(shape(&layout, Retired), shape(&layout, Distributed));
    assert_eq!(shape(&Layout::default(), Distributed), None);
}

#[test]
fn a_patch_removes_the_former_key_only_where_it_is_another() {
    let code = AppCode::parse("code").unwrap();
    let data = |former_key| {
        let change = CodeChange {
            key: "key",
            former_key,
            code: &code,
            contents: None,
        };
        patch("42", "ns/name", &full(), Some(change))["data"].clone()
    };
    assert_eq!(data(None), json!({"key": "Y29kZQ=="}));
    assert_eq!(data(Some("key")), json!({"key": "Y29kZQ=="}));
    assert_eq!(data(Some("old")), json!({"key": "Y29kZQ==", "old": null}));
    let without = patch("42", "ns/name", &full(), None);
    assert!(without.get("data").is_none());
    assert_eq!(without["metadata"]["annotations"][NUMBER], "4");
    assert_eq!(without["metadata"]["annotations"][RESOURCE], "ns/name");
    let mut marked = without;
    mark(&mut marked);
    assert_eq!(marked["metadata"]["labels"], json!({ MANAGED_BY: MANAGER }));
    assert_eq!(marked["metadata"]["resourceVersion"], "42");
}

#[test]
fn a_new_secret_is_named_labelled_and_opaque() {
    let made = new_secret("ns", "name", "ns/name", &Record::new(app("app")), First::default());
    assert_eq!(made.type_.as_deref(), Some("Opaque"));
    assert_eq!(made.metadata.namespace.as_deref(), Some("ns"));
    assert_eq!(made.metadata.name.as_deref(), Some("name"));
    let keys: Vec<_> = made.metadata.annotations.unwrap().into_keys().collect();
    assert_eq!(
        keys,
        [APP, CREATED, RESOURCE, NUMBER],
        "nothing is written of what is not known"
    );
}
