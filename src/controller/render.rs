//! What a write puts on the target Secret besides the record: the only place where codes and templates meet.

use serde_json::Value;

use super::observe::{Pass, asker};
use crate::modelarts::AppCode;
use crate::secret::{CodeChange, Contents, First, OurSecret, Record, Wish, patch};
use crate::template::Values;
use crate::validate::Validated;

/// The app's present name; empty if it has none.
fn app_name(pass: &Pass) -> &str {
    let app = pass.observed.reading();
    app.and_then(|app| app.name.as_deref()).unwrap_or_default()
}

/// What a new target Secret is made with.
pub(super) fn first(pass: &Pass) -> First {
    let Some(validated) = &pass.validated else {
        return First::default();
    };
    let key = pass.key.to_string();
    let asker = asker(validated, &pass.key, pass.owner(), &key, None, None);
    First::of(&validated.layout, asker, app_name(pass))
}

/// The patch that writes `code` into a Secret of ours, and the record as it will stand there then. One that is bare leaves
/// all else as it is.
pub(super) fn code_patch(
    pass: &Pass,
    name: &str,
    code: &AppCode,
    record: Record,
    is_bare: bool,
) -> Option<(Value, Record)> {
    let validated = pass.validated.as_ref()?;
    let secret = pass.secret(name).ours()?;
    let target = &validated.target;
    let is_target = name == target.name;
    let shown = pass.observed.status.target.as_ref().filter(|shown| shown.name == name);
    let shown_key = shown.map(|shown| shown.key.as_str());
    // A Secret that spec no longer names keeps the key, and all else, that its readers know.
    // What others keep is never written over: should spec have come to name it while a rotation was open, the code goes
    // in alone.
    let is_plain = secret.unfit.is_some() || secret.extras.taken.is_some();
    let contents = (is_target && !is_plain && !is_bare).then(|| contents(pass, validated, secret, &record, code));
    let record = Record {
        rendered: match &contents {
            Some(contents) => contents.rendered.clone(),
            None => secret.record.rendered.clone(),
        },
        ..record
    };
    let change = CodeChange {
        key: shown_key.filter(|_| !is_target).unwrap_or(&target.key),
        former_key: shown_key.filter(|_| is_target),
        code,
        contents: contents.as_ref(),
    };
    let patch = patch(&secret.resource_version, &pass.key.to_string(), &record, Some(change));
    Some((patch, record))
}

/// What goes with `code` and `record` onto the target Secret. Templates were tried before; should one fail all the same,
/// the code is written without them.
fn contents(pass: &Pass, validated: &Validated, secret: &OurSecret, record: &Record, code: &AppCode) -> Contents {
    let (layout, key) = (&validated.layout, validated.target.key.as_str());
    let app = pass.observed.reading();
    let listed = app.map(|app| app.codes.as_slice()).unwrap_or_default();
    let previous = record
        .working_previous(listed)
        .and_then(|previous| pass.codes.get(&previous));
    let rendition = layout.render(Values {
        app_code: code.expose(),
        previous: previous.map(AppCode::expose).unwrap_or_default(),
        app: &validated.app,
        app_name: app_name(pass),
    });
    if let Err(fault) = &rendition {
        tracing::warn!(%fault, "a template fails with the real values; the code is written without it");
    }
    let wish = Wish {
        shape: record.shape(layout, key, app.and_then(|app| app.name.as_deref()), listed),
        key,
        previous: layout.previous_key.as_deref().map(|key| (key, previous)),
        rendition,
    };
    Contents::of(wish, secret.record.rendered.as_ref(), &secret.extras, layout.creation)
}
