//! What a write puts on the target Secret besides the record: the only place where codes and templates meet.

use super::observe::{Pass, asker};
use crate::modelarts::AppCode;
use crate::secret::{Contents, First, OurSecret, Record, Wish};
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
    let asker = asker(validated, &pass.key, pass.owner(), &key, None);
    First::of(&validated.layout, asker, app_name(pass))
}

/// What goes with `code` and `record` onto the target Secret. Templates were tried before; should one fail all the same,
/// the code is written without them.
pub(super) fn contents(
    pass: &Pass,
    validated: &Validated,
    secret: &OurSecret,
    record: &Record,
    code: &AppCode,
) -> Contents {
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
