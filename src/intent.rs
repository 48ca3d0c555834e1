//! The write-ahead intent: what is on the Secret before a call that cannot be undone, and what a reading of the app
//! says about that call afterwards. Pure; it never sees a code, only fingerprints.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::api::{Outcome, RotationStep, Strategy, Trigger};
use crate::ids::{AppIdentity, Fingerprint, RotationId};
use crate::workload::RestartTarget;

/// The format written by this version. Another one on a Secret means: do nothing and say so.
pub const FORMAT_VERSION: u32 = 1;

/// Fingerprints that an intent remembers beyond the codes listed when it was marked. An app holds five codes at most,
/// so this reaches back over dozens of rotations and keeps the annotation near 3 KiB.
const KNOWN_LIMIT: usize = 40;

/// Codes an app can hold (the API gateway's limit for one credential).
pub const CAPACITY: usize = 5;

/// The call that the present attempt makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Call {
    /// PUT: replaces the base. The base in its path makes it a compare-and-swap.
    Reset,
    /// POST: adds a code, for `Overlap`, for an app without codes or to finish a half reset. A repeat adds another.
    Add,
    /// DELETE: retires the base once the code that replaced it has reached its consumers. The base in its path makes it a
    /// compare-and-delete: a repeat finds nothing to do.
    Delete,
}

/// What was done for the consumers since the code is in the Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Distribution {
    /// When the code was tried and worked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verified_at: Option<Timestamp>,
    /// Workloads that were restarted for this rotation, as `kind/name/uid`: none is restarted for it again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restarted: Vec<String>,
    /// When all was done; the grace period of the code before counts from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distributed_at: Option<Timestamp>,
}

impl Distribution {
    /// Whether a workload called `target` was restarted for this rotation, whichever it was.
    pub fn has_restarted(&self, target: &RestartTarget) -> bool {
        let prefix = format!("{target}/");
        self.restarted.iter().any(|mark| mark.starts_with(&prefix))
    }
}

/// The trigger values that a rotation uses up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Consumed {
    /// `rotationTrigger` as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// The request annotation as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Fingerprint of the seed as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<Fingerprint>,
}

/// One rotation as it stands on the Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Intent {
    /// [`FORMAT_VERSION`] of the writer.
    pub format_version: u32,
    /// Id of the rotation.
    pub rotation_id: RotationId,
    /// Its number: one above every number seen before.
    pub number: i64,
    /// Uid of the resource that asked for it.
    pub uid: String,
    /// Generation of the resource that asked for it.
    pub generation: i64,
    /// The chief reason.
    pub trigger: Trigger,
    /// The values it uses up.
    pub consumed: Consumed,
    /// How it replaces the code.
    pub strategy: Strategy,
    /// How far it has come.
    pub step: RotationStep,
    /// The app that it changes.
    pub app: AppIdentity,
    /// The code that it replaces; none for an app without codes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Fingerprint>,
    /// The call of the present attempt.
    pub call: Call,
    /// Codes that cannot be the new one, newest first: all that were listed before, and those of the record it replaced.
    pub known: Vec<Fingerprint>,
    /// Codes that appeared between two attempts, so that they are reported when nobody claims them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unclaimed: Vec<Fingerprint>,
    /// Number of the present attempt, from 1.
    pub attempt: u32,
    /// The app's own time of last change when the attempt was marked, in its milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<i64>,
    /// When the rotation was started.
    pub started_at: Timestamp,
    /// When the present attempt was marked.
    pub marked_at: Timestamp,
    /// How its code was learned; present once it is persisted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// How far its code has reached its consumers; none if there was nothing to do for them when it was persisted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Distribution>,
}

/// Why an intent cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntentError {
    /// Written by another version.
    #[error("the intent on the Secret has format version {0}, this operator knows version {FORMAT_VERSION}")]
    Version(u64),
    /// Not an intent.
    #[error("the intent on the Secret cannot be read")]
    Malformed,
}

impl Intent {
    /// Reads the annotation.
    ///
    /// # Errors
    /// When it is of another version or no intent. The text is not quoted.
    pub fn parse(text: &str) -> Result<Self, IntentError> {
        let value: serde_json::Value = serde_json::from_str(text).map_err(|_| IntentError::Malformed)?;
        match value.get("formatVersion").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(FORMAT_VERSION) => {}
            Some(version) => return Err(IntentError::Version(version)),
            None => return Err(IntentError::Malformed),
        }
        serde_json::from_value(value).map_err(|_| IntentError::Malformed)
    }

    /// The annotation's text.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() // strings, numbers and times only: cannot fail
    }

    /// Whether its outcome is still open.
    pub fn is_open(&self) -> bool {
        self.step == RotationStep::Started
    }

    /// The code that it retires or has still to retire: with `Overlap` the base, from the moment that the new code is in
    /// the Secret until the base is gone.
    pub fn retires(&self) -> Option<Fingerprint> {
        let is_due = match self.step {
            RotationStep::Persisted | RotationStep::Distributed | RotationStep::Retiring => true,
            RotationStep::Started | RotationStep::Retired => false,
        };
        self.base.filter(|_| is_due && self.strategy == Strategy::Overlap)
    }

    /// Whether its code has still to reach its consumers.
    pub fn is_undistributed(&self) -> bool {
        self.step == RotationStep::Persisted && self.distribution.is_some()
    }

    /// Whether something is left to be done for it: its outcome, its consumers or the code that it replaced.
    pub fn is_unfinished(&self) -> bool {
        self.is_open() || self.is_undistributed() || self.retires().is_some()
    }

    /// The same rotation, marked for an attempt to delete its base.
    #[must_use]
    pub fn next_retirement(&self, now: Timestamp) -> Self {
        Self {
            step: RotationStep::Retiring,
            call: Call::Delete,
            attempt: self.attempt.saturating_add(1),
            marked_at: now,
            ..self.clone()
        }
    }

    /// The same where another code is on its way to the consumers, which nobody has tried yet.
    #[must_use]
    pub fn untried(&self) -> Self {
        let is_on_its_way = self.is_undistributed();
        let distribution = self.distribution.clone().map(|done| Distribution {
            verified_at: done.verified_at.filter(|_| !is_on_its_way),
            ..done
        });
        Self {
            distribution,
            ..self.clone()
        }
    }

    /// The same rotation once its code has reached its consumers.
    #[must_use]
    pub fn distributed(&self, verified_at: Option<Timestamp>, now: Timestamp) -> Self {
        let before = self.distribution.clone().unwrap_or_default();
        Self {
            step: RotationStep::Distributed,
            distribution: Some(Distribution {
                verified_at: before.verified_at.or(verified_at),
                distributed_at: Some(now),
                ..before
            }),
            ..self.clone()
        }
    }

    /// The same rotation with nothing left to retire: the base is gone, or it stays where it is because it is not ours to
    /// delete and is reported as unclaimed.
    #[must_use]
    pub fn retired(&self, is_left: bool) -> Self {
        let mut unclaimed = self.unclaimed.clone();
        unclaimed.extend(self.base.filter(|_| is_left));
        Self {
            step: RotationStep::Retired,
            unclaimed,
            ..self.clone()
        }
    }

    /// The same rotation, marked for one more attempt with `call`. What is listed now can no longer be taken for new.
    #[must_use]
    pub fn next_attempt(&self, call: Call, reading: Reading<'_>, now: Timestamp) -> Self {
        let mut unclaimed = self.unclaimed.clone();
        unclaimed.extend(
            reading
                .listed
                .iter()
                .filter(|code| !self.known.contains(code) && Some(**code) != self.base),
        );
        unclaimed.sort_unstable();
        unclaimed.dedup();
        Self {
            attempt: self.attempt.saturating_add(1),
            call,
            known: known(reading.listed, &self.known),
            unclaimed,
            updated_at: reading.updated_at.or(self.updated_at),
            marked_at: now,
            ..self.clone()
        }
    }

    /// Codes on the list that were not there before and that no sibling claims.
    pub fn new_codes(&self, reading: Reading<'_>) -> Vec<Fingerprint> {
        let is_new = |code: &Fingerprint| {
            !self.known.contains(code) && Some(*code) != self.base && !reading.claimed.contains(code)
        };
        reading.listed.iter().copied().filter(is_new).collect()
    }

    /// The same once a person has said that `code` is ours: the other new codes are left over.
    #[must_use]
    pub fn leaving(&self, code: Fingerprint, reading: Reading<'_>) -> Self {
        let mut unclaimed = self.unclaimed.clone();
        unclaimed.extend(self.new_codes(reading));
        unclaimed.retain(|other| *other != code);
        unclaimed.sort_unstable();
        unclaimed.dedup();
        Self {
            unclaimed,
            ..self.clone()
        }
    }

    /// What a reading of the app says about the present attempt.
    pub fn resolve(&self, reading: Reading<'_>) -> Verdict {
        let base_is_listed = self.base.is_some_and(|base| reading.listed.contains(&base));
        let new = self.new_codes(reading);
        match (self.call, base_is_listed, new.as_slice()) {
            (Call::Reset, false, [one]) => Verdict::Ours(*one),
            (Call::Reset, true, _) | (Call::Add, _, []) | (Call::Delete, ..) => Verdict::Repeat,
            (Call::Reset, false, []) => Verdict::HalfReset,
            (Call::Add, _, [one]) if self.fits(reading) => Verdict::Ours(*one),
            (Call::Reset | Call::Add, _, _) => Verdict::Ambiguous,
        }
    }

    /// Whether a reading is older than the one that the attempt was marked on, as far as the app's own clock tells. What is
    /// new in it may have been replaced before the mark.
    pub fn is_outdated(&self, reading: Reading<'_>) -> bool {
        let times = self.updated_at.zip(reading.updated_at);
        times.is_some_and(|(before, after)| after < before)
    }

    /// Whether the app was changed after the attempt was marked, as far as its own clock tells.
    fn fits(&self, reading: Reading<'_>) -> bool {
        match (self.updated_at, reading.updated_at) {
            (Some(before), Some(after)) => after > before,
            _ => true,
        }
    }
}

/// Of two accounts of the last rotation the one that has come further.
pub fn furthest<'a>(one: Option<&'a Intent>, other: Option<&'a Intent>) -> Option<&'a Intent> {
    // Of two that have come as far the first one counts.
    other
        .into_iter()
        .chain(one)
        .max_by_key(|intent| (intent.number, intent.step, intent.attempt))
}

/// The known set of a new attempt: what is listed now, then what was known before, each once, newest first.
pub fn known(listed: &[Fingerprint], before: &[Fingerprint]) -> Vec<Fingerprint> {
    let mut known = Vec::with_capacity(KNOWN_LIMIT);
    for code in listed.iter().chain(before) {
        if !known.contains(code) {
            known.push(*code);
        }
    }
    known.truncate(KNOWN_LIMIT.max(listed.len()));
    known
}

/// What the cloud says of an app, as far as an intent is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// Codes that the cloud lists.
    pub listed: &'a [Fingerprint],
    /// The app's own time of last change.
    pub updated_at: Option<i64>,
    /// Codes that other resources of the app hold.
    pub claimed: &'a [Fingerprint],
}

/// What a reading says about an attempt. Only `Ours` is positive evidence and may be acted on at once; `Repeat` and
/// `HalfReset` rest on something not being there, so they must be settled first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The base is gone and exactly one code is new: it is ours.
    Ours(Fingerprint),
    /// The call had no effect that can be seen.
    Repeat,
    /// The base is gone and nothing took its place.
    HalfReset,
    /// Nothing tells which of the new codes is ours.
    Ambiguous,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::Strategy;
    use crate::ids::{AppId, ProjectId};

    fn code(n: u8) -> Fingerprint {
        Fingerprint::of(&AppId::parse("app").unwrap(), &n.to_string())
    }

    fn codes(numbers: &[u8]) -> Vec<Fingerprint> {
        numbers.iter().copied().map(code).collect()
    }

    fn intent(call: Call, base: Option<u8>, known: &[u8]) -> Intent {
        Intent {
            format_version: FORMAT_VERSION,
            rotation_id: RotationId::from_random(7),
            number: 3,
            uid: "uid".into(),
            generation: 2,
            trigger: Trigger::Spec,
            consumed: Consumed {
                trigger: Some("a".into()),
                request: None,
                seed: Some(code(9)),
            },
            strategy: Strategy::Reset,
            step: RotationStep::Started,
            app: AppIdentity {
                endpoint: "https://cloud".into(),
                project_id: ProjectId::parse("p").unwrap(),
                app_id: AppId::parse("app").unwrap(),
            },
            base: base.map(code),
            call,
            known: codes(known),
            unclaimed: vec![],
            attempt: 1,
            updated_at: Some(100),
            started_at: Timestamp::UNIX_EPOCH,
            marked_at: Timestamp::UNIX_EPOCH,
            outcome: None,
            distribution: None,
        }
    }

    fn verdict(intent: &Intent, listed: &[u8], updated_at: i64, claimed: &[u8]) -> Verdict {
        let (listed, claimed) = (codes(listed), codes(claimed));
        intent.resolve(Reading {
            listed: &listed,
            updated_at: Some(updated_at),
            claimed: &claimed,
        })
    }

    #[test]
    fn the_table_for_a_reset_is_kept() {
        let reset = intent(Call::Reset, Some(1), &[1, 2]);
        assert_eq!(verdict(&reset, &[2, 3], 200, &[]), Verdict::Ours(code(3)));
        assert_eq!(verdict(&reset, &[1, 2], 100, &[]), Verdict::Repeat);
        assert_eq!(
            verdict(&reset, &[1, 2, 3], 200, &[]),
            Verdict::Repeat,
            "never adopt while the base is listed"
        );
        assert_eq!(verdict(&reset, &[2], 200, &[]), Verdict::HalfReset);
        assert_eq!(verdict(&reset, &[2, 3, 4], 200, &[]), Verdict::Ambiguous);
        assert_eq!(
            verdict(&reset, &[2, 3, 4], 200, &[4]),
            Verdict::Ours(code(3)),
            "a sibling's code is not ours"
        );
    }

    #[test]
    fn the_table_for_an_added_code_is_kept() {
        let add = intent(Call::Add, Some(1), &[1, 2]);
        assert_eq!(verdict(&add, &[2], 100, &[]), Verdict::Repeat);
        assert_eq!(verdict(&add, &[2, 3], 101, &[]), Verdict::Ours(code(3)));
        assert_eq!(
            verdict(&add, &[2, 3], 100, &[]),
            Verdict::Ambiguous,
            "the app was not changed since the mark"
        );
        assert_eq!(verdict(&add, &[2, 3, 4], 101, &[]), Verdict::Ambiguous);
    }

    #[test]
    fn a_reading_from_before_the_mark_is_outdated() {
        let mut marked = intent(Call::Reset, Some(1), &[1]);
        let listed = codes(&[3]);
        let outdated = |intent: &Intent, updated_at| {
            intent.is_outdated(Reading {
                listed: &listed,
                updated_at,
                claimed: &[],
            })
        };
        for (at, expected) in [(Some(99), true), (Some(100), false), (Some(101), false), (None, false)] {
            assert_eq!(outdated(&marked, at), expected, "{at:?}");
        }
        marked.updated_at = None;
        assert!(!outdated(&marked, Some(1)), "nobody knows");
    }

    #[test]
    fn what_appeared_between_two_attempts_is_never_taken_for_new() {
        let listed = codes(&[1, 2, 3]);
        let reading = Reading {
            listed: &listed,
            updated_at: Some(200),
            claimed: &[],
        };
        let second = intent(Call::Reset, Some(1), &[1, 2]).next_attempt(Call::Reset, reading, Timestamp::UNIX_EPOCH);
        assert_eq!(second.attempt, 2);
        assert_eq!(second.unclaimed, vec![code(3)]);
        assert_eq!(verdict(&second, &[2, 3, 4], 300, &[]), Verdict::Ours(code(4)));
    }

    #[test]
    fn new_codes_that_a_person_did_not_choose_are_left_over() {
        let listed = codes(&[2, 3, 4]);
        let reading = Reading {
            listed: &listed,
            updated_at: None,
            claimed: &[],
        };
        let answered = intent(Call::Reset, Some(1), &[1, 2]).leaving(code(4), reading);
        assert_eq!(answered.unclaimed, vec![code(3)]);
    }

    #[test]
    fn another_format_is_not_guessed_at() {
        let text = intent(Call::Reset, Some(1), &[1]).to_text();
        assert_eq!(
            Intent::parse(&text.replace("\"formatVersion\":1", "\"formatVersion\":2")),
            Err(IntentError::Version(2))
        );
        for bad in ["", "{}", "[]", "null", "{\"formatVersion\":1}", &text[1..]] {
            assert_eq!(Intent::parse(bad), Err(IntentError::Malformed), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn an_intent_reads_back_what_it_wrote(known in proptest::collection::vec(any::<u8>(), 0..60), base in any::<Option<u8>>(), attempt in any::<u32>()) {
            let mut written = intent(Call::Reset, base, &known);
            written.attempt = attempt;
            prop_assert_eq!(Intent::parse(&written.to_text()).unwrap(), written);
        }

        #[test]
        fn no_annotation_makes_parsing_panic(text in ".{0,400}") {
            let _ = Intent::parse(&text);
        }

        #[test]
        fn nothing_known_claimed_or_unlisted_is_ever_ours(
            known in proptest::collection::vec(0u8..12, 0..6),
            listed in proptest::collection::vec(0u8..12, 0..6),
            claimed in proptest::collection::vec(0u8..12, 0..3),
            base in proptest::option::of(0u8..12),
            add in any::<bool>(),
            updated_at in 99i64..102,
        ) {
            let asked = intent(if add { Call::Add } else { Call::Reset }, base, &known);
            if let Verdict::Ours(ours) = verdict(&asked, &listed, updated_at, &claimed) {
                prop_assert!(codes(&listed).contains(&ours));
                prop_assert!(!codes(&known).contains(&ours) && !codes(&claimed).contains(&ours));
                prop_assert!(add || base.is_none_or(|base| !listed.contains(&base)));
            }
        }

        #[test]
        fn the_known_set_holds_all_that_is_listed_and_stays_small(listed in proptest::collection::vec(any::<u8>(), 0..6), before in proptest::collection::vec(any::<u8>(), 0..200)) {
            let known = known(&codes(&listed), &codes(&before));
            prop_assert!(codes(&listed).iter().all(|code| known.contains(code)));
            prop_assert!(known.len() <= KNOWN_LIMIT);
        }
    }
}
