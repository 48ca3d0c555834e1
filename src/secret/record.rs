//! The record: what must not be lost, as it stands in annotations of the Secret.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::extras::Rendered;
use crate::ids::{AppId, AppIdentity, BadId, Fingerprint, ProjectId};
use crate::intent::{Intent, IntentError};
use crate::template::Layout;

/// The resource that the Secret belongs to, as `namespace/name`.
pub const RESOURCE: &str = "appcode.dev/resource";
pub(super) const APP: &str = "appcode.dev/app";
pub(super) const NUMBER: &str = "appcode.dev/rotation-number";
pub(super) const FINGERPRINT: &str = "appcode.dev/fingerprint";
pub(super) const PREVIOUS: &str = "appcode.dev/previous-fingerprint";
pub(super) const ROTATED_AT: &str = "appcode.dev/rotated-at";
pub(super) const SEED: &str = "appcode.dev/seed-fingerprint";
pub(super) const HANDLED_TRIGGER: &str = "appcode.dev/last-handled-trigger";
pub(super) const HANDLED_REQUEST: &str = "appcode.dev/last-handled-request";
pub(super) const RECENT: &str = "appcode.dev/recent-rotations";
pub(super) const INTENT: &str = "appcode.dev/intent";
pub(super) const RENDERED: &str = "appcode.dev/rendered";
pub(super) const ADOPTED: &str = "appcode.dev/adopted-fingerprint";

/// Numbers above this were not counted by us: one rotation a second takes longer than the universe has lasted.
pub(crate) const NUMBER_LIMIT: i64 = 1 << 60;

/// State that must not be lost, as it stands in the annotations.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// The app that the rest is about.
    pub app: AppIdentity,
    /// Number of the rotation that made the code in the Secret; zero for a seed that was taken over.
    pub number: i64,
    /// The code that the Secret should hold; none before the first one is known.
    pub fingerprint: Option<Fingerprint>,
    /// The code before it.
    pub previous: Option<Fingerprint>,
    /// When that code became current.
    pub rotated_at: Option<Timestamp>,
    /// The seed that was last taken into account.
    pub seed: Option<Fingerprint>,
    /// The `rotationTrigger` that was last taken into account.
    pub handled_trigger: Option<String>,
    /// The request that was last taken into account.
    pub handled_request: Option<String>,
    /// The code that a person had named as the answer to an ambiguity when one last became current. It answers nothing
    /// later.
    pub adopted: Option<Fingerprint>,
    /// When the rotations of the last day were started, oldest first; what the daily budget is counted by.
    pub recent: Vec<Timestamp>,
    /// The last rotation, open or persisted.
    pub intent: Option<Intent>,
    /// What was last written besides the code, if anything was.
    pub rendered: Option<Rendered>,
}

/// Why a record cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The intent is of another format.
    #[error(transparent)]
    Intent(#[from] IntentError),
    /// An annotation is not what we write.
    #[error("annotation {0} on the Secret cannot be read")]
    Annotation(&'static str),
}

impl Record {
    /// A record for `app` before anything happened.
    pub fn new(app: AppIdentity) -> Self {
        Self {
            app,
            number: 0,
            fingerprint: None,
            previous: None,
            rotated_at: None,
            seed: None,
            handled_trigger: None,
            handled_request: None,
            adopted: None,
            recent: Vec::new(),
            intent: None,
            rendered: None,
        }
    }

    /// Stands for all that shapes what is ours on the Secret besides the code; none where that is nothing.
    pub fn shape(&self, layout: &Layout, key: &str, app_name: Option<&str>, listed: &[Fingerprint]) -> Option<String> {
        let previous = self.working_previous(listed);
        layout.shape(key, app_name.unwrap_or_default(), self.fingerprint?, previous)
    }

    /// The code before the one in the Secret, while both of them work: it is still to be retired, and the cloud lists it.
    pub fn working_previous(&self, listed: &[Fingerprint]) -> Option<Fingerprint> {
        let previous = self.intent.as_ref()?.retires()?;
        (listed.contains(&previous) && self.fingerprint != Some(previous)).then_some(previous)
    }

    /// The highest rotation number that stands in it.
    pub fn highest_number(&self) -> i64 {
        self.intent
            .as_ref()
            .map_or(self.number, |intent| intent.number.max(self.number))
    }

    /// The open intent, if its number is above `completed` (an intent at or below it is stale).
    pub fn open_intent(&self, completed: i64) -> Option<&Intent> {
        let floor = self.number.max(completed);
        self.intent
            .as_ref()
            .filter(|intent| intent.is_open() && intent.number > floor)
    }

    pub(super) fn parse(annotations: &BTreeMap<String, String>) -> Result<Self, RecordError> {
        let text = |key: &str| annotations.get(key).map(String::as_str).filter(|text| !text.is_empty());
        let print = |key: &'static str| {
            text(key)
                .map(Fingerprint::parse)
                .transpose()
                .map_err(|_| RecordError::Annotation(key))
        };
        let app = text(APP)
            .and_then(|text| parse_app(text).ok())
            .ok_or(RecordError::Annotation(APP))?;
        let number = text(NUMBER)
            .map_or(Ok(0), str::parse::<i64>)
            .map_err(|_| RecordError::Annotation(NUMBER))?;
        let intent = text(INTENT).map(Intent::parse).transpose()?;
        let highest = intent.as_ref().map_or(number, |intent| number.max(intent.number));
        if number < 0 || highest > NUMBER_LIMIT {
            return Err(RecordError::Annotation(NUMBER));
        }
        Ok(Self {
            app,
            number,
            fingerprint: print(FINGERPRINT)?,
            previous: print(PREVIOUS)?,
            rotated_at: text(ROTATED_AT)
                .map(str::parse)
                .transpose()
                .map_err(|_| RecordError::Annotation(ROTATED_AT))?,
            seed: print(SEED)?,
            handled_trigger: text(HANDLED_TRIGGER).map(str::to_owned),
            handled_request: text(HANDLED_REQUEST).map(str::to_owned),
            adopted: print(ADOPTED)?,
            recent: text(RECENT)
                .map(|times| times.split(' ').map(str::parse).collect())
                .transpose()
                .map_err(|_| RecordError::Annotation(RECENT))?
                .unwrap_or_default(),
            intent,
            rendered: text(RENDERED).and_then(Rendered::parse),
        })
    }

    /// The annotations; `null` removes one that a merge patch finds.
    pub(super) fn annotations(&self, resource: &str) -> Map<String, Value> {
        let print = |print: Option<Fingerprint>| json!(print.map(|print| print.to_string()));
        let mut map = Map::new();
        map.insert(RESOURCE.into(), json!(resource));
        map.insert(APP.into(), json!(self.app.to_string()));
        map.insert(NUMBER.into(), json!(self.number.to_string()));
        map.insert(FINGERPRINT.into(), print(self.fingerprint));
        map.insert(PREVIOUS.into(), print(self.previous));
        map.insert(ROTATED_AT.into(), json!(self.rotated_at.map(|time| time.to_string())));
        map.insert(SEED.into(), print(self.seed));
        map.insert(HANDLED_TRIGGER.into(), json!(self.handled_trigger));
        map.insert(HANDLED_REQUEST.into(), json!(self.handled_request));
        map.insert(ADOPTED.into(), print(self.adopted));
        let recent: Vec<String> = self.recent.iter().map(Timestamp::to_string).collect();
        map.insert(RECENT.into(), json!((!recent.is_empty()).then(|| recent.join(" "))));
        map.insert(INTENT.into(), json!(self.intent.as_ref().map(Intent::to_text)));
        map.insert(RENDERED.into(), json!(self.rendered.as_ref().map(Rendered::to_text)));
        map
    }
}

/// Reads `endpoint/project/app`; neither of the last two holds a slash.
fn parse_app(text: &str) -> Result<AppIdentity, BadId> {
    let bad = BadId {
        what: "app",
        rule: "endpoint/project/app",
    };
    let mut parts = text.rsplitn(3, '/');
    let (app, project) = (parts.next().ok_or(bad.clone())?, parts.next().ok_or(bad.clone())?);
    Ok(AppIdentity {
        endpoint: parts.next().ok_or(bad)?.to_owned(),
        project_id: ProjectId::parse(project)?,
        app_id: AppId::parse(app)?,
    })
}
