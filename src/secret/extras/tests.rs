//! Whose what is on a Secret besides the code, and what a new one is made with.

use super::*;
use crate::api::{SecretTemplate, SecretType, TemplateText};
use crate::ids::{AppId, AppIdentity, ProjectId};
use crate::secret::{CodeChange, First, Record, new_secret, patch, view};
use crate::template::Layout;

fn app() -> AppIdentity {
    AppIdentity {
        endpoint: "https://cloud".into(),
        project_id: ProjectId::parse("project").unwrap(),
        app_id: AppId::parse("app").unwrap(),
    }
}

fn secret(meta: &Value) -> Secret {
    let mut secret: Secret = serde_json::from_value(json!({ "metadata": meta })).unwrap();
    secret.metadata.name = Some("target".into());
    secret
}

/// The resource's own reference with some fields that are otherwise.
fn reference(otherwise: &Value) -> Value {
    let mut reference = json!({
        "apiVersion": "appcode.dev/v1alpha1", "kind": "AppCodeRotation", "name": "name", "uid": "uid", "controller": true,
    });
    let fields = otherwise.as_object().unwrap().clone();
    reference.as_object_mut().unwrap().extend(fields);
    reference
}

fn ours() -> Value {
    reference(&json!({}))
}

/// The list that is to be written instead of this one, if it is not as it should be.
fn corrected(asker: Asker<'_>, is_made: bool, present: &[Value]) -> Option<Vec<Value>> {
    let mark = if is_made {
        json!({ CREATED: "target" })
    } else {
        json!({})
    };
    let secret = secret(&json!({ "ownerReferences": present, "annotations": mark }));
    let extras = Extras::read(&secret, None, asker);
    assert!(extras.owners.is_none() || extras.is_astray);
    let patch = owners_patch("7", &extras.owners?);
    assert_eq!(patch["metadata"]["resourceVersion"], "7");
    Some(patch["metadata"]["ownerReferences"].as_array().unwrap().clone())
}

#[test]
fn a_secret_that_goes_with_its_resource_has_it_for_its_owner_once() {
    let app = app();
    let asker = Asker {
        us: "name",
        uid: "uid",
        deletion: DeletionPolicy::Delete,
        ..Asker::of("ns/keeper", &app, "appCode")
    };
    let of = |present: &[Value]| corrected(asker, true, present);
    assert_eq!(of(&[]), Some(vec![ours()]));
    assert_eq!(of(&[ours()]), None);
    assert_eq!(of(&[reference(&json!({"blockOwnerDeletion": false}))]), None);
    for replaced in [
        json!({"blockOwnerDeletion": true}),
        json!({"uid": "of an earlier one"}),
        json!({"controller": false}),
        json!({"apiVersion": "appcode.dev/v1"}),
        json!({"name": "keeper"}),
    ] {
        assert_eq!(of(&[reference(&replaced)]), Some(vec![ours()]), "{replaced}");
        assert_eq!(of(&[ours(), reference(&replaced)]), Some(vec![ours()]), "{replaced}");
    }
    for anothers in [
        json!({"name": "another"}),
        json!({"kind": "Deployment"}),
        json!({"apiVersion": "apps/v1"}),
    ] {
        let anothers = reference(&anothers);
        assert_eq!(of(std::slice::from_ref(&anothers)), Some(vec![anothers, ours()]));
    }
}

#[test]
fn a_secret_that_others_made_or_that_is_kept_has_no_owner_of_ours() {
    let app = app();
    let retained = Asker {
        uid: "uid",
        ..Asker::of("ns/name", &app, "appCode")
    };
    let deleted = Asker {
        deletion: DeletionPolicy::Delete,
        ..retained
    };
    let anothers = reference(&json!({"kind": "Deployment"}));
    assert_eq!(corrected(retained, true, &[]), None);
    assert_eq!(
        corrected(retained, true, &[anothers.clone(), ours()]),
        Some(vec![anothers])
    );
    assert_eq!(corrected(deleted, false, &[]), None, "others made it");
    // Versions before the mark set the reference.
    let earlier = reference(&json!({"uid": "of an earlier one"}));
    assert_eq!(corrected(deleted, false, &[earlier]), Some(vec![ours()]));
    // A resource that is gone changes nothing; one that names another Secret by now only lets go of this one.
    assert_eq!(corrected(Asker { uid: "", ..retained }, true, &[ours()]), None);
    let former = |asker| Asker {
        creation: None,
        ..asker
    };
    assert_eq!(corrected(former(retained), true, &[ours()]), Some(Vec::new()));
    assert_eq!(corrected(former(deleted), true, &[]), None);
    // A copy bears the mark of its original.
    let is_made = |mark: &str| Extras::read(&secret(&json!({"annotations": {CREATED: mark}})), None, deleted).is_made;
    assert!(is_made("target") && !is_made("original"));
    assert!(!Extras::read(&Secret::default(), None, deleted).is_made);
}

#[test]
fn what_others_put_where_spec_wants_something_is_told() {
    let app = app();
    let text = |key: &str| BTreeMap::from([(key.to_owned(), TemplateText("text".into()))]);
    let layout = Layout {
        previous_key: Some("previous".into()),
        template: SecretTemplate {
            kind: None,
            labels: text("team"),
            annotations: text("note"),
            data: text("url"),
        },
        ..Layout::default()
    };
    let asker = Asker {
        layout: Some(&layout),
        ..Asker::of("ns/name", &app, "appCode")
    };
    let all = Rendered {
        data: vec!["url".into(), "previous".into()],
        labels: vec!["team".into()],
        annotations: vec!["note".into()],
        ..Rendered::default()
    };
    let on = |keys: &[&str], meta: &Value| {
        let value = |key: &&str| ((*key).to_owned(), ByteString(b"code".to_vec()));
        let mut secret = secret(meta);
        secret.data = Some(keys.iter().map(value).collect());
        secret
    };
    let taken = |secret: &Secret, before, asker| Extras::read(secret, before, asker).taken;
    for (secret, expected) in [
        (on(&["appCode", "theirs"], &json!({"labels": {"a": "b"}})), None),
        (
            on(&["url"], &json!({"labels": {"team": "a"}})),
            Some(Taken::Key("url".into())),
        ),
        (on(&["previous"], &json!({})), Some(Taken::Key("previous".into()))),
        (
            on(&[], &json!({"labels": {"team": "a"}, "annotations": {"note": "b"}})),
            Some(Taken::Label("team".into())),
        ),
        (
            on(&[], &json!({"annotations": {"note": "b"}})),
            Some(Taken::Annotation("note".into())),
        ),
    ] {
        assert_eq!(taken(&secret, None, asker), expected);
        assert_eq!(taken(&secret, Some(&all), asker), None, "it is ours");
        assert_eq!(
            taken(
                &secret,
                None,
                Asker {
                    creation: None,
                    ..asker
                }
            ),
            None,
            "left behind"
        );
    }
    // The code itself is ours, under the key that it has or had.
    let holds_code = on(&["url"], &json!({}));
    assert_eq!(taken(&holds_code, None, Asker { key: "url", ..asker }), None);
    let moved = Asker {
        shown_key: Some("url"),
        ..asker
    };
    assert_eq!(taken(&holds_code, None, moved), None);
}

#[test]
fn no_annotation_makes_the_operators_or_kubernetes_own_ours_to_remove() {
    let names = ["team", "appcode.dev/app", "kubernetes.io/metadata.name"];
    let text = json!({"labels": names, "annotations": names}).to_string();
    let read = Rendered::parse(&text).unwrap();
    assert_eq!(
        (read.labels, read.annotations),
        (vec!["team".into()], vec!["team".into()])
    );
}

#[test]
fn a_write_brings_annotations_and_owners_to_what_they_should_be() {
    let code = AppCode::parse("code").unwrap();
    let mut rendition = Rendition::default();
    rendition.annotations.insert("note".into(), "b".into());
    let wish = Wish {
        shape: Some("shape".into()),
        key: "appCode",
        previous: None,
        rendition: Ok(rendition),
    };
    let before = Rendered {
        annotations: vec!["gone".into()],
        ..Rendered::default()
    };
    let extras = Extras {
        owners: Some(vec![Owner::resource("name", "uid")]),
        ..Extras::default()
    };
    let contents = Contents::of(wish, Some(&before), &extras, CreationPolicy::Create);
    let change = CodeChange {
        key: "appCode",
        former_key: None,
        code: &code,
        contents: Some(&contents),
    };
    let body = patch("7", "ns/name", &Record::new(app()), Some(change));
    let annotations = &body["metadata"]["annotations"];
    assert_eq!(
        (annotations.get("note"), annotations.get("gone")),
        (Some(&json!("b")), Some(&Value::Null))
    );
    assert_eq!(body["metadata"]["ownerReferences"], json!([ours()]));
}

#[test]
fn a_new_secret_is_made_as_its_layout_wants_it() {
    let app = app();
    let layout = Layout {
        template: SecretTemplate {
            kind: Some(SecretType::BasicAuth),
            ..SecretTemplate::default()
        },
        ..Layout::default()
    };
    let asker = Asker {
        uid: "uid",
        deletion: DeletionPolicy::Delete,
        kind: SecretType::BasicAuth,
        ..Asker::of("ns/name", &app, "password")
    };
    let secret_of = |layout: &Layout| {
        new_secret(
            "ns",
            "target",
            "ns/name",
            &Record::new(app.clone()),
            First::of(layout, asker, "shop"),
        )
    };
    let made = secret_of(&layout);
    assert_eq!(made.type_.as_deref(), Some("kubernetes.io/basic-auth"));
    assert_eq!(
        made.data,
        Some([("username".to_owned(), ByteString(Vec::new()))].into())
    );
    assert_eq!(json!(made.metadata.owner_references), json!([ours()]));
    let found = view(Some(&made), asker);
    let found = found.own().unwrap();
    let rendered = found.record.rendered.as_ref().unwrap();
    assert_eq!(rendered.data, ["username"], "it is ours, and still to be written");
    assert!(found.extras.is_made && found.unfit.is_none());
    // One that others are to make is not ours to delete later.
    let merged = secret_of(&Layout {
        creation: CreationPolicy::Merge,
        ..layout
    });
    assert!(!merged.annotations().contains_key(CREATED));
}
