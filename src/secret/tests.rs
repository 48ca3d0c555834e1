use jiff::Timestamp;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::record::*;
use super::*;
use crate::ids::{AppId, ProjectId};

fn app(id: &str) -> AppIdentity {
    AppIdentity {
        endpoint: "https://modelarts.example.com:8443".into(),
        project_id: ProjectId::parse("project").unwrap(),
        app_id: AppId::parse(id).unwrap(),
    }
}

fn record() -> Record {
    Record {
        number: 4,
        fingerprint: Some(Fingerprint::of(&app("app").app_id, "code")),
        rotated_at: Some(Timestamp::UNIX_EPOCH),
        handled_trigger: Some("t\"1\n".into()),
        ..Record::new(app("app"))
    }
}

fn look(secret: &Secret, app: &AppIdentity) -> SecretView {
    view(Some(secret), Asker::of("ns/name", app, "appCode"))
}

#[test]
fn a_new_secret_holds_the_record_and_no_code() {
    let secret = new_secret("ns", "name", "ns/name", &record(), First::default());
    assert!(secret.data.is_none() && secret.string_data.is_none());
    let SecretView::Ours(ours) = look(&secret, &app("app")) else {
        panic!("not ours")
    };
    assert_eq!(ours.record, record());
    assert_eq!(ours.code, None);
}

#[test]
fn a_patch_carries_the_version_it_was_decided_on_and_removes_what_is_gone() {
    let code = AppCode::parse("code").unwrap();
    let change = CodeChange {
        key: "new",
        former_key: Some("old"),
        code: &code,
        contents: None,
    };
    let patch = patch("42", "ns/name", &record(), Some(change));
    assert_eq!(patch["metadata"]["resourceVersion"], "42");
    assert_eq!(patch["data"]["new"], "Y29kZQ==");
    assert_eq!(patch["data"]["old"], Value::Null);
    assert_eq!(patch["metadata"]["annotations"][INTENT], Value::Null);
}

#[test]
fn a_secret_is_ours_only_by_label_resource_and_app() {
    let ours = new_secret("ns", "name", "ns/name", &record(), First::default());
    let mut no_label = ours.clone();
    no_label.metadata.labels = None;
    assert!(matches!(
        look(&no_label, &app("app")).strict(),
        SecretView::Foreign { .. }
    ));
    let copied = new_secret("ns", "name", "other/name", &record(), First::default());
    assert!(matches!(look(&copied, &app("app")), SecretView::Foreign { .. }));
    let (mine, other) = (app("app"), app("other"));
    assert!(matches!(look(&ours, &other), SecretView::Foreign { .. }));
    let asker = Asker {
        former_app: Some(&mine),
        ..Asker::of("ns/name", &other, "appCode")
    };
    assert!(matches!(view(Some(&ours), asker), SecretView::Ours(_)));
}

#[test]
fn a_forged_or_broken_record_is_unreadable_rather_than_obeyed() {
    for (key, value) in [
        (NUMBER, "-1"),
        (NUMBER, "9223372036854775807"),
        (NUMBER, "x"),
        (FINGERPRINT, "xyz"),
        (ROTATED_AT, "yesterday"),
        (INTENT, "{\"formatVersion\":99}"),
        (INTENT, "garbage"),
        (APP, "nothing"),
    ] {
        let mut secret = new_secret("ns", "name", "ns/name", &record(), First::default());
        secret
            .metadata
            .annotations
            .as_mut()
            .unwrap()
            .insert(key.into(), value.into());
        assert!(
            matches!(look(&secret, &app("app")), SecretView::Unreadable(_)),
            "{key} {value}"
        );
    }
}

#[test]
fn an_immutable_or_vanishing_secret_is_locked() {
    let mut secret = new_secret("ns", "name", "ns/name", &record(), First::default());
    secret.immutable = Some(true);
    let SecretView::Ours(ours) = look(&secret, &app("app")) else {
        panic!("not ours")
    };
    assert!(ours.locked.is_some());
}

fn foreign(meta: &Value) -> Secret {
    let mut secret: Secret =
        serde_json::from_value(json!({"metadata": meta, "data": {"appCode": "Y29kZQ=="}})).unwrap();
    secret.metadata.resource_version = Some("7".into());
    secret
}

fn by(policy: CreationPolicy, secret: &Secret) -> SecretView {
    let app = app("app");
    let asker = Asker {
        creation: Some(policy),
        ..Asker::of("ns/name", &app, "appCode")
    };
    view(Some(secret), asker)
}

#[test]
fn a_secret_of_nobodys_is_taken_over_only_by_policy() {
    use CreationPolicy::{Adopt, Create, Merge};
    let nobodys = foreign(&json!({"labels": {"a": "b"}}));
    assert!(matches!(by(Create, &nobodys), SecretView::Foreign { .. }));
    for policy in [Adopt, Merge] {
        let SecretView::Ours(found) = by(policy, &nobodys) else {
            panic!("not taken over")
        };
        assert!(found.is_inherited && found.is_blank());
        assert_eq!(found.code, Some(Fingerprint::of(&app("app").app_id, "code")));
        assert_eq!(found.resource_version, "7");
    }
    let others = foreign(&json!({"annotations": {"appcode.dev/resource": "ns/other"}}));
    let helms = foreign(&json!({"labels": {"app.kubernetes.io/managed-by": "Helm"}}));
    for policy in [Create, Adopt, Merge] {
        assert!(matches!(by(policy, &others), SecretView::Foreign { .. }));
    }
    assert!(matches!(by(Adopt, &helms), SecretView::Foreign { .. }));
    assert!(matches!(by(Merge, &helms), SecretView::Ours(_)));
    // What was merged into says that it is ours, and that counts without the label.
    let mut merged = new_secret("ns", "name", "ns/name", &record(), First::default());
    merged.metadata.labels = None;
    assert!(matches!(by(Create, &merged).strict(), SecretView::Foreign { .. }));
    let SecretView::Ours(found) = by(Merge, &merged) else {
        panic!("not ours")
    };
    assert!(!found.is_inherited && !found.extras.is_astray);
    let SecretView::Ours(found) = by(Adopt, &merged) else {
        panic!("not ours")
    };
    assert!(found.extras.is_astray, "the mark is still to be put on it");
}

#[test]
fn a_former_secret_is_ours_by_what_it_says_and_never_taken_over() {
    let app = app("app");
    let asker = Asker {
        creation: None,
        kind: SecretType::BasicAuth,
        ..Asker::of("ns/name", &app, "appCode")
    };
    let mut merged = new_secret("ns", "name", "ns/name", &record(), First::default());
    merged.metadata.labels = None;
    let SecretView::Ours(found) = view(Some(&merged), asker) else {
        panic!("not ours")
    };
    assert_eq!(found.locked, None, "its type is that of an earlier spec");
    assert!(matches!(
        view(Some(&foreign(&json!({}))), asker),
        SecretView::Foreign { .. }
    ));
}

#[test]
fn a_write_changes_what_is_ours_and_names_nothing_else() {
    let code = AppCode::parse("code").unwrap();
    let wish = |rendition| Wish {
        shape: Some("shape".into()),
        key: "appCode",
        previous: Some(("previous", Some(&code))),
        rendition,
    };
    let before = Rendered {
        data: ["appCode", "gone", "url"].map(str::to_owned).into(),
        labels: vec!["gone".into()],
        annotations: vec!["gone".into()],
        ..Rendered::default()
    };
    let mut rendition = crate::template::Rendition::default();
    rendition.data.insert("url".into(), "https://code".to_owned().into());
    let contents = Contents::of(
        wish(Ok(rendition)),
        Some(&before),
        &Extras::default(),
        CreationPolicy::Create,
    );
    assert!(!format!("{contents:?}").contains("https"), "{contents:?}");
    let rendered = contents.rendered.clone().unwrap();
    assert_eq!(rendered.data, ["previous", "url"]);
    let record = Record {
        rendered: contents.rendered.clone(),
        ..record()
    };
    let change = CodeChange {
        key: "appCode",
        former_key: Some("appCode"),
        code: &code,
        contents: Some(&contents),
    };
    let body = patch("7", "ns/name", &record, Some(change));
    assert_eq!(
        body["data"],
        json!({"appCode": "Y29kZQ==", "gone": null, "previous": "Y29kZQ==", "url": "aHR0cHM6Ly9jb2Rl"})
    );
    assert_eq!(body["metadata"]["labels"], json!({"gone": null}));
    assert_eq!(body["metadata"]["annotations"]["gone"], Value::Null);
    assert_eq!(body["metadata"].get("ownerReferences"), None);

    let fault = crate::template::Fault {
        field: "field".into(),
        line: None,
        what: "fails",
    };
    let failed = Contents::of(
        wish(Err(fault)),
        Some(&before),
        &Extras::default(),
        CreationPolicy::Merge,
    );
    let rendered = failed.rendered.clone().unwrap();
    assert_eq!(rendered.fault.as_deref(), Some("field fails"));
    assert_eq!(rendered.labels, ["gone"], "what stands there is still ours");
    let body = patch(
        "7",
        "ns/name",
        &record,
        Some(CodeChange {
            contents: Some(&failed),
            ..change
        }),
    );
    assert_eq!(body["data"], json!({"appCode": "Y29kZQ==", "previous": "Y29kZQ=="}));
    assert_eq!(body["metadata"].get("labels"), None);
}

#[test]
fn what_was_rendered_is_read_again_and_missed_when_it_is_changed() {
    let mut secret = foreign(&json!({"labels": {"team": "a"}, "annotations": {"note": "b"}}));
    let mut rendition = crate::template::Rendition::default();
    rendition.data.insert("appCode".into(), "code".to_owned().into());
    rendition.labels.insert("team".into(), "a".into());
    rendition.annotations.insert("note".into(), "b".into());
    let wish = Wish {
        shape: Some("shape".into()),
        key: "key",
        previous: None,
        rendition: Ok(rendition),
    };
    let contents = Contents::of(wish, None, &Extras::default(), CreationPolicy::Merge);
    let record = Record {
        rendered: contents.rendered,
        ..record()
    };
    let written = record.annotations("ns/name");
    let annotations = secret.metadata.annotations.as_mut().unwrap();
    annotations.extend(
        written
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))),
    );
    let is_astray = |secret: &Secret| match by(CreationPolicy::Merge, secret) {
        SecretView::Ours(found) => {
            assert_eq!(found.record, record);
            found.extras.is_astray
        }
        other => panic!("{other:?}"),
    };
    assert!(!is_astray(&secret));
    let changes: [fn(&mut Secret); 4] = [
        |secret| secret.data = None,
        |secret| secret.metadata.labels = None,
        |secret| secret.metadata.labels = Some([("team".to_owned(), "c".to_owned())].into()),
        |secret| drop(secret.metadata.annotations.as_mut().unwrap().remove("note")),
    ];
    for change in changes {
        let mut edited = secret.clone();
        change(&mut edited);
        assert!(is_astray(&edited));
    }
    // What others add is nobody's business.
    secret
        .data
        .as_mut()
        .unwrap()
        .insert("theirs".into(), ByteString(vec![1]));
    assert!(!is_astray(&secret));
}
