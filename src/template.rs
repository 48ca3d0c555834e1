//! What the target Secret is to be besides the plain code: its layout, and the templates in it. Pure.
//!
//! Whoever may write a resource writes templates, so an engine that trusts them would be a way to stop the operator. What
//! a template may be is therefore checked on its tokens, before it is parsed: no arithmetic and no maps (a short product
//! of lists takes minutes and gigabytes, whatever the engine's fuel), and few tokens in a tag and few tags (the parser and
//! what follows it recurse over them). What is left is bounded by fuel and by the size of what is written.
//!
//! A message names the key and the line. It quotes neither a template, which may hold a secret of its own, nor a value.

mod engine;
mod names;

use std::collections::BTreeMap;
use std::fmt;

use secrecy::SecretString;
use serde_json::json;

use self::engine::Engine;
use self::names::{is_annotation_key, is_label_value, is_qualified};
pub use self::names::{is_ours, is_reserved};
use crate::api::{CreationPolicy, DeletionPolicy, SecretTemplate, SecretType, TemplateText};
use crate::ids::{AppIdentity, Fingerprint, hex_digest};
use crate::modelarts::AppCode;
use crate::validate::is_secret_key;

/// Most bytes of one template.
const LONGEST: usize = 16 * 1024;
/// Most bytes of all templates of a resource, and most bytes of all that is rendered from them.
const LARGEST: usize = 64 * 1024;
/// Most entries of each of the three maps.
const MOST_ENTRIES: usize = 32;

/// What the target Secret is to be besides the plain code under its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Key of the code before, while that works.
    pub previous_key: Option<String>,
    /// Type, labels, annotations and further keys.
    pub template: SecretTemplate,
    /// What may become of a Secret that exists.
    pub creation: CreationPolicy,
    /// What becomes of the Secret when the resource is deleted.
    pub deletion: DeletionPolicy,
}

/// What templates are rendered with.
#[derive(Clone, Copy)]
pub struct Values<'a> {
    /// The code.
    pub app_code: &'a str,
    /// The code before while it works, else empty: strict templates would fail on an undefined one until the first
    /// rotation.
    pub previous: &'a str,
    /// Which app.
    pub app: &'a AppIdentity,
    /// The app's present name; empty if it has none.
    pub app_name: &'a str,
}

/// What the templates of a resource come to.
#[derive(Debug, Default)]
pub struct Rendition {
    /// Keys of the Secret.
    pub data: BTreeMap<String, SecretString>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The field, with the key where that is one.
    pub field: String,
    /// Line in the template.
    pub line: Option<usize>,
    /// What is wrong, in words that follow the field.
    pub what: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.field)?;
        if let Some(line) = self.line {
            write!(f, ", line {line},")?;
        }
        write!(f, " {}", self.what)
    }
}

/// One of the three maps of a template.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Labels,
    Annotations,
    Data,
}

impl Part {
    const ALL: [Self; 3] = [Self::Labels, Self::Annotations, Self::Data];

    fn of(self, template: &SecretTemplate) -> &BTreeMap<String, TemplateText> {
        match self {
            Self::Labels => &template.labels,
            Self::Annotations => &template.annotations,
            Self::Data => &template.data,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Labels => "labels",
            Self::Annotations => "annotations",
            Self::Data => "data",
        }
    }

    /// Whether `key` can stand in it; a reserved one is told apart.
    fn is_key(self, key: &str) -> bool {
        match self {
            Self::Labels => is_qualified(key),
            Self::Annotations => is_annotation_key(key),
            Self::Data => is_secret_key(key),
        }
    }

    fn field(self, key: &str) -> String {
        let field = format!("spec.target.template.{}", self.name());
        // What is no key may be anything, a secret too.
        if self.is_key(key) {
            format!("{field}[{key}]")
        } else {
            field
        }
    }

    fn fault(self, key: &str, line: Option<usize>, what: &'static str) -> Fault {
        let field = self.field(key);
        Fault { field, line, what }
    }
}

impl Layout {
    /// The type that the Secret must have.
    pub fn kind(&self) -> SecretType {
        self.template.kind.unwrap_or_default()
    }

    /// Whether nothing but the plain code is to be written.
    pub fn is_plain(&self) -> bool {
        let template = &self.template;
        let is_bare = Part::ALL.into_iter().all(|part| part.of(template).is_empty());
        self.previous_key.is_none() && is_bare
    }

    /// Stands for everything that shapes what is rendered; none where nothing but the plain code is to be written.
    pub fn shape(&self, key: &str, app_name: &str, code: Fingerprint, previous: Option<Fingerprint>) -> Option<String> {
        if self.is_plain() {
            return None;
        }
        let codes = (code.to_string(), previous.map(|code| code.to_string()));
        let all = json!([self.template, key, self.previous_key, app_name, codes]);
        Some(hex_digest(all.to_string().as_bytes()))
    }

    /// Every fault that can be found without the real values: what no value can mend, and what fails with values like
    /// them.
    pub fn faults(&self, app: Option<&AppIdentity>, app_name: Option<&str>) -> Vec<Fault> {
        let template = &self.template;
        let mut faults = Vec::new();
        let mut total = 0;
        for part in Part::ALL {
            let entries = part.of(template);
            if entries.len() > MOST_ENTRIES {
                faults.push(part.fault("", None, "may have 32 entries at most"));
            }
            for (key, TemplateText(text)) in entries {
                total += text.len();
                faults.extend(fault_of_key(part, key).map(|what| part.fault(key, None, what)));
                let checked = if text.len() > LONGEST {
                    Err((None, "has more than 16 KiB"))
                } else {
                    engine::check(text, part != Part::Data)
                };
                faults.extend(checked.err().map(|(line, what)| part.fault(key, line, what)));
            }
        }
        if total > LARGEST {
            faults.push(Fault {
                field: "spec.target.template".to_owned(),
                line: None,
                what: "has more than 64 KiB of templates",
            });
        }
        if let (true, Some(app)) = (faults.is_empty(), app) {
            faults.extend(self.trial(app, app_name.unwrap_or("app")).err());
        }
        faults
    }

    /// Renders with codes that are none, of usual and of greatest length, with and without one before.
    ///
    /// # Errors
    /// When that fails.
    pub fn trial(&self, app: &AppIdentity, app_name: &str) -> Result<(), Fault> {
        let [usual, longest] = [64, AppCode::MAX_LENGTH].map(|length| "x".repeat(length));
        for (app_code, previous) in [(&usual, ""), (&usual, usual.as_str()), (&longest, longest.as_str())] {
            self.render(Values {
                app_code,
                previous,
                app,
                app_name,
            })?;
        }
        Ok(())
    }

    /// Renders everything.
    ///
    /// # Errors
    /// With the first template that fails.
    pub fn render(&self, values: Values<'_>) -> Result<Rendition, Fault> {
        let mut rendition = Rendition::default();
        let mut engine = Engine::new(values, LARGEST);
        for part in Part::ALL {
            for (key, TemplateText(text)) in part.of(&self.template) {
                let failed = |(line, what)| part.fault(key, line, what);
                // Labels and annotations are rendered without the codes, so that none can get there.
                let text = engine.render(text, part == Part::Data).map_err(failed)?;
                let key = key.clone();
                match part {
                    Part::Labels if !is_label_value(&text) => {
                        let what = "does not come to a label's value: at most 63 letters, digits, hyphens, underscores \
                                    and dots, with a letter or digit at both ends";
                        return Err(part.fault(&key, None, what));
                    }
                    Part::Labels => drop(rendition.labels.insert(key, text)),
                    Part::Annotations => drop(rendition.annotations.insert(key, text)),
                    Part::Data => drop(rendition.data.insert(key, text.into())),
                }
            }
        }
        Ok(rendition)
    }

    /// The data that the API server asks of a new Secret of this type, without any code: it goes before the first code.
    /// Under a key that is not the code's, so that a pod that waits for the code goes on waiting.
    pub fn first_data(&self, key: &str, app: &AppIdentity, app_name: &str) -> Option<(&'static str, String)> {
        if self.kind() != SecretType::BasicAuth {
            return None;
        }
        let name = if key == "username" { "password" } else { "username" };
        let template = self.template.data.get(name).map(|TemplateText(text)| text.as_str());
        let is_open = |text: &&str| engine::check(text, true).is_ok();
        let values = Values {
            app_code: "",
            previous: "",
            app,
            app_name,
        };
        let mut engine = Engine::new(values, LARGEST);
        let text = template
            .filter(is_open)
            .and_then(|text| engine.render(text, false).ok());
        Some((name, text.unwrap_or_default()))
    }
}

fn fault_of_key(part: Part, key: &str) -> Option<&'static str> {
    if !part.is_key(key) {
        return Some(match part {
            Part::Labels | Part::Annotations => {
                "has a key that is none: at most 63 letters, digits, hyphens, underscores and dots, with a letter or \
                 digit at both ends, perhaps after a domain of at most 253 characters and a slash"
            }
            Part::Data => "has a key that is none: at most 253 letters, digits, hyphens, underscores and dots",
        });
    }
    if part == Part::Data {
        return None;
    }
    if is_ours(key) {
        return Some("is the operator's own");
    }
    is_reserved(key).then_some("is reserved by Kubernetes")
}

#[cfg(test)]
mod tests;
