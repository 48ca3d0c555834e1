//! What the Secret's record and the resource's status say together, where they may disagree.
//!
//! They disagree after a crash between two writes, a restored backup or a wiped status. A value counts as handled if
//! either says so; numbers take the maximum; the current code is the one of the higher completed number; times in the
//! future are cut.

use jiff::Timestamp;

use super::{Observed, Wanted};
use crate::api::AppStatus;
use crate::ids::{AppIdentity, Fingerprint};
use crate::schedule::cut_to_now;
use crate::secret::Record;

/// The past of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// Number of the last completed rotation.
    pub number: i64,
    /// Highest number ever given out.
    pub highest: i64,
    /// Fingerprint of the current code of the wanted app, whole or short; none at a start.
    pub current: Option<String>,
    /// When that code became current.
    pub rotated_at: Option<Timestamp>,
    /// The trigger value that was last taken into account.
    pub handled_trigger: Option<String>,
    /// The request that was last taken into account.
    pub handled_request: Option<String>,
    /// Whether the record or status are about another app than the one that is wanted.
    pub retargeted: bool,
    seeds: Vec<String>,
    triggers: Vec<String>,
    requests: Vec<String>,
}

impl Story {
    /// Reads the two together.
    pub fn tell(o: &Observed, wanted: &Wanted, now: Timestamp) -> Self {
        let record = o.book().map(|(_, secret)| &secret.record);
        let status = &o.status;
        let status_number = status.rotation_number;
        let record_number = record.map(|record| record.number);
        let is_record_newer = record_number >= status_number;
        let in_record = record.filter(|record| record.app == wanted.app);
        let in_status = status.app.as_ref().is_none_or(|app| is_same(app, &wanted.app));
        let recorded = in_record
            .and_then(|record| record.fingerprint)
            .map(|print| print.to_string());
        let shown = status
            .current
            .as_ref()
            .filter(|_| in_status)
            .map(|code| code.fingerprint.clone());
        let record_time = in_record.and_then(|record| record.rotated_at);
        let status_time = status
            .current
            .as_ref()
            .filter(|_| in_status)
            .map(|code| code.rotated_at.0);
        let (current, times) = if record_number > status_number {
            (recorded.or(shown), [record_time, None])
        } else if is_record_newer {
            (recorded.or(shown), [record_time, status_time])
        } else {
            (shown.or(recorded), [status_time, None])
        };
        let both = |one: Option<&String>, other: Option<&String>| -> Vec<String> {
            one.into_iter().chain(other).cloned().collect()
        };
        let triggers = both(
            record.and_then(|r| r.handled_trigger.as_ref()),
            status.last_handled_trigger.as_ref(),
        );
        let requests = both(
            record.and_then(|r| r.handled_request.as_ref()),
            status.last_handled_request.as_ref(),
        );
        let seed = in_record.and_then(|record| record.seed).map(|print| print.to_string());
        let seeds = both(seed.as_ref(), status.seed_fingerprint.as_ref().filter(|_| in_status));
        let secrets = [o.secret.ours(), o.former.ours()];
        let records = || secrets.iter().flatten().map(|secret| &secret.record);
        let recorded_number = records().map(|record| record.number).max();
        let number = recorded_number.unwrap_or(0).max(status_number.unwrap_or(0));
        // Of two values that were both taken into account the one that stands now must not be forgotten.
        let handled = |all: &[String], present: Option<&String>| {
            let present = present.filter(|value| all.contains(value));
            present.or(all.first()).cloned()
        };
        Self {
            number,
            highest: records()
                .map(Record::highest_number)
                .chain(o.mirror.as_ref().map(|mirror| mirror.number))
                .fold(number, i64::max),
            current,
            rotated_at: cut_to_now(times.into_iter().flatten(), now),
            handled_trigger: handled(&triggers, wanted.trigger.as_ref()),
            handled_request: handled(&requests, o.resource.request.as_ref()),
            retargeted: record.is_some_and(|record| record.app != wanted.app) || !in_status,
            seeds,
            triggers,
            requests,
        }
    }

    /// Whether `code` is the current one.
    pub fn is_current(&self, code: Option<Fingerprint>) -> bool {
        match (&self.current, code) {
            (Some(current), Some(code)) => code.is_named_by(current),
            _ => false,
        }
    }

    /// Whether `seed` was taken into account before.
    pub fn is_seed(&self, seed: Fingerprint) -> bool {
        self.seeds.iter().any(|known| seed.is_named_by(known))
    }

    /// Whether this value of `rotationTrigger` was taken into account: yes if either record says so.
    pub fn is_trigger_handled(&self, value: &str) -> bool {
        self.triggers.iter().any(|handled| handled == value)
    }

    /// Whether this request was taken into account: yes if either record says so.
    pub fn is_request_handled(&self, value: &str) -> bool {
        self.requests.iter().any(|handled| handled == value)
    }
}

fn is_same(status: &AppStatus, app: &AppIdentity) -> bool {
    status.endpoint == app.endpoint
        && status.project_id == app.project_id.as_str()
        && status.app_id == app.app_id.as_str()
}
