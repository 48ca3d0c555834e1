use std::collections::BTreeMap;

use super::*;
use crate::api::{SecretType, TemplateText};
use crate::secret::Rendered;

fn merging(o: &mut Observed) {
    wanted(o).layout.creation = CreationPolicy::Merge;
}

fn unfit(o: &mut Observed, why: Unfit) {
    ours(&mut o.secret).unfit = Some(why);
}

fn astray(o: &mut Observed) {
    ours(&mut o.secret).extras.is_astray = true;
}

#[test]
fn a_secret_that_spec_may_not_use_is_left_as_it_is() {
    fn to_be_deleted(o: &mut Observed, is_made: bool) {
        wanted(o).layout.deletion = DeletionPolicy::Delete;
        ours(&mut o.secret).extras.is_made = is_made;
    }
    check(
        settled,
        &[
            (
                "others keep it",
                |o| unfit(o, Unfit::Foreign("no")),
                "stop SecretConflict",
            ),
            (
                "another type",
                |o| unfit(o, Unfit::Kind(SecretType::Opaque)),
                "stop SecretNotWritable",
            ),
            (
                "others wrote a key that spec names",
                |o| ours(&mut o.secret).extras.taken = Some(Taken::Key("url".into())),
                "stop SecretConflict",
            ),
            (
                "others made what is to be deleted",
                |o| to_be_deleted(o, false),
                "stop SecretConflict",
            ),
            ("the operator made it", |o| to_be_deleted(o, true), "rest"),
        ],
    );
    // The code of an open rotation is saved all the same.
    let open = || begun_with(|o| list(o, &[2]));
    check(
        open,
        &[(
            "a rotation is open",
            |o| unfit(o, Unfit::Foreign("no")),
            "write Persist",
        )],
    );
    check(
        || {
            with(|o| {
                merging(o);
                o.secret = SecretView::Absent;
            })
        },
        &[
            ("others have to make it", |_| {}, "stop SecretNotWritable"),
            (
                "a rotation is open that status tells of",
                |o| o.mirror = Some(intent(&mut begun()).clone()),
                "create",
            ),
        ],
    );
}

#[test]
fn nobody_is_told_to_delete_a_locked_secret_that_others_keep() {
    let told = |change: fn(&mut Observed)| {
        let mut o = with(change);
        ours(&mut o.secret).locked = Some(Lock::Immutable);
        message(&plan(&o, now())).contains("kubectl delete")
    };
    assert!(told(|_| {}) && !told(merging));
}

#[test]
fn each_lock_of_a_secret_is_told_what_opens_it() {
    let told = |o: &Observed| {
        let step = plan(o, now());
        assert_eq!(word(&step), "stop SecretNotWritable");
        let told = commands(message(&step));
        told.map(|it| it.split(" -n ").next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let settled = |lock| told(&with(|o| ours(&mut o.secret).locked = Some(lock)));
    let open = |lock| told(&begun_with(|o| ours(&mut o.secret).locked = Some(lock)));
    assert_eq!(settled(Lock::Immutable), ["kubectl delete secret target"]);
    assert_eq!(
        settled(Lock::Kind(SecretType::Opaque)),
        ["kubectl delete secret target"]
    );
    assert_eq!(settled(Lock::Going), ["kubectl edit secret target"]);
    assert_eq!(
        open(Lock::Immutable),
        ["kubectl get secret target", "kubectl replace --force"]
    );
    assert_eq!(open(Lock::Kind(SecretType::Opaque)), ["kubectl edit acr name"]);
    assert_eq!(
        open(Lock::Going),
        ["kubectl get secret target", "kubectl edit secret target"]
    );
}

/// The Secret has a further key by this template, as it was written.
fn templated(text: &str) -> Observed {
    with(|o| {
        let layout = &mut wanted(o).layout;
        layout.template.data = BTreeMap::from([("url".to_owned(), TemplateText(text.to_owned()))]);
        let (layout, key) = (layout.clone(), wanted(o).target.key.clone());
        let app = reading(o).clone();
        let record = &mut ours(&mut o.secret).record;
        let shape = record.shape(&layout, &key, app.name.as_deref(), &app.codes).unwrap();
        record.rendered = Some(Rendered {
            shape,
            ..Rendered::default()
        });
    })
}

#[test]
fn what_is_rendered_is_written_anew_when_it_is_not_as_it_should_be() {
    check(
        || templated("https://{{ appCode }}"),
        &[
            ("as it was written", |_| {}, "rest"),
            ("changed by others", astray, "write Render"),
            (
                "another template",
                |o| wanted(o).layout.previous_key = Some("previous".into()),
                "write Render",
            ),
            (
                "none",
                |o| wanted(o).layout = crate::template::Layout::default(),
                "write Render",
            ),
            (
                "the app has another name",
                |o| reading(o).name = Some("other".into()),
                "write Render",
            ),
            (
                "it failed",
                |o| ours(&mut o.secret).record.rendered.as_mut().unwrap().fault = Some("fails".into()),
                "stop TemplateInvalid",
            ),
        ],
    );
    // It is noticed at once, not with the next check.
    check(
        || with(|o| o.cloud = Cloud::NotAsked),
        &[
            ("as it was written", |_| {}, "rest"),
            ("changed by others", astray, "ask"),
        ],
    );
}

#[test]
fn a_template_that_fails_is_found_out_before_a_rotation_begins() {
    check(
        || templated("{{ unknown }}"),
        &[
            ("nothing is due", |_| {}, "rest"),
            ("due", ask, "stop TemplateInvalid"),
            (
                "due and held",
                |o| {
                    ask(o);
                    wanted(o).suspend = true;
                },
                "rest",
            ),
        ],
    );
}
