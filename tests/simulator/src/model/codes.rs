//! Codes coming and going: the one place that changes what an app lists, and writes it down.

use jiff::{SignedDuration, Timestamp};

use super::{Cloud, CodePosition};
use crate::ledger::{Cause, Change, Effect};

/// Snapshots kept of one app for reads that lag behind.
const SNAPSHOTS: usize = 64;

#[derive(Debug, Clone)]
pub(super) struct CodeRecord {
    pub(super) app: String,
    pub(super) made_at: Timestamp,
    pub(super) removed_at: Option<Timestamp>,
}

/// What an app looked like from a moment on.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) since: Timestamp,
    pub(super) since_act: u64,
    pub(super) codes: Vec<String>,
    pub(super) updated_at: i64,
}

/// One execution, for the ledger.
#[derive(Debug, Clone, Copy)]
pub(super) struct Act {
    pub(super) now: Timestamp,
    pub(super) act: u64,
    pub(super) request: Option<u64>,
    pub(super) cause: Cause,
}

impl Cloud {
    pub(super) fn new_act(&mut self, now: Timestamp, request: Option<u64>, cause: Cause) -> Act {
        Act {
            now,
            act: self.ledger.next_act(),
            request,
            cause,
        }
    }

    /// Two random UUIDs in one, as ModelArts makes them.
    pub(super) fn new_code(&mut self) -> String {
        let first = self.new_uuid();
        first + &self.new_uuid()
    }

    /// Keeps what the app looks like before an act changes it.
    pub(super) fn remember(&mut self, act: Act, app_id: &str) {
        if let Some(app) = self.apps.get_mut(app_id) {
            if app.past.len() == SNAPSHOTS {
                app.past.pop_front();
            }
            let snapshot = Snapshot {
                since: app.changed_at,
                since_act: app.changed_by,
                codes: app.codes.clone(),
                updated_at: app.updated_at,
            };
            app.past.push_back(snapshot);
            app.changed_at = act.now;
            app.changed_by = act.act;
            app.updated_at = act.now.as_millisecond().max(app.updated_at + 1);
        }
    }

    /// Makes a code of an app; `place` is that of the code it replaces.
    pub(super) fn make_code(&mut self, act: Act, app_id: &str, code: String, place: Option<usize>) {
        let position = self.behaviour.code_position;
        if let Some(app) = self.apps.get_mut(app_id) {
            let last = app.codes.len();
            let index = match position {
                CodePosition::First => 0,
                CodePosition::Last => last,
                CodePosition::Keep | CodePosition::Shuffled => place.unwrap_or(last).min(last),
            };
            app.codes.insert(index, code.clone());
        }
        let record = CodeRecord {
            app: app_id.to_owned(),
            made_at: act.now,
            removed_at: None,
        };
        self.codes.insert(code.clone(), record);
        self.record(act, app_id, Change::Made, code);
    }

    /// Ends a code of an app and tells its place.
    pub(super) fn end_code(&mut self, act: Act, app_id: &str, code: &str) -> Option<usize> {
        let app = self.apps.get_mut(app_id)?;
        let place = app.codes.iter().position(|listed| listed == code)?;
        app.codes.remove(place);
        if let Some(record) = self.codes.get_mut(code) {
            record.removed_at = Some(act.now);
        }
        self.record(act, app_id, Change::Removed, code.to_owned());
        Some(place)
    }

    fn record(&mut self, act: Act, app_id: &str, change: Change, code: String) {
        self.ledger.record(Effect {
            time: act.now,
            act: act.act,
            request: act.request,
            app: app_id.to_owned(),
            change,
            code,
            cause: act.cause,
        });
    }

    /// The app whose code this is for the data plane now, with its propagation delays.
    pub(super) fn app_of_code(&self, now: Timestamp, code: &str) -> Option<&str> {
        let record = self.codes.get(code)?;
        let after = |from: Timestamp, millis: u64| {
            let delay = SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
            from.checked_add(delay).unwrap_or(Timestamp::MAX)
        };
        let works = after(record.made_at, self.behaviour.new_code_delay_millis) <= now
            && record
                .removed_at
                .is_none_or(|end| now < after(end, self.behaviour.old_code_valid_millis));
        works.then_some(record.app.as_str())
    }
}
