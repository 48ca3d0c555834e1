//! What happened: every request and every effect, in order. Tests judge by it, so it holds codes in plain text.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::faults::FaultId;
use crate::model::Operation;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answered {
    /// Nothing yet.
    Pending,
    /// An answer is ready and is kept back.
    Held,
    /// Answered with this status.
    Status(u16),
    /// The connection was closed instead.
    Cut,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestEntry {
    /// Counts from one.
    pub number: u64,
    /// When it arrived, by the cloud's clock.
    pub time: Timestamp,
    /// HTTP method.
    pub method: String,
    /// What was asked.
    pub operation: Operation,
    /// App id in the path.
    pub app: Option<String>,
    /// IAM user id, once proven.
    pub caller: Option<String>,
    /// What became of it.
    pub answered: Answered,
    /// Error code of a refusal or of an ordered fault.
    pub error_code: Option<String>,
    /// Body of an answer with an error status.
    #[serde(default)]
    pub refusal: Option<String>,
    /// Value of the header `X-Request-Id`.
    pub request_id: String,
    /// Whether it changed anything, now or later.
    pub had_effect: bool,
    /// Faults that struck it.
    pub faults: Vec<FaultId>,
}

/// What an effect did to a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// The code came to be.
    Made,
    /// The code ended.
    Removed,
}

/// Why a code came or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A reset, whole or half.
    Reset,
    /// A call that adds a code.
    Add,
    /// A call that deletes a code.
    Delete,
    /// The app was deleted with it.
    DeleteApp,
    /// The test or the person at the admin interface: a stranger to the client.
    Admin,
}

/// A code made or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Effect {
    /// When, by the cloud's clock.
    pub time: Timestamp,
    /// Effects of one execution share this number; a call delivered twice executes twice.
    pub act: u64,
    /// The request that caused it.
    pub request: Option<u64>,
    /// The app.
    pub app: String,
    /// What happened to the code.
    pub change: Change,
    /// The code itself.
    pub code: String,
    /// Why.
    pub cause: Cause,
}

/// All requests and effects, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ledger {
    /// Every request.
    pub requests: Vec<RequestEntry>,
    /// Every code made or removed.
    pub effects: Vec<Effect>,
    #[serde(default)]
    acts: u64,
}

impl Ledger {
    /// Requests of an operation, answered or not.
    pub fn calls(&self, operation: Operation) -> usize {
        self.of(operation).count()
    }

    /// The requests of an operation.
    pub fn of(&self, operation: Operation) -> impl Iterator<Item = &RequestEntry> {
        self.requests.iter().filter(move |entry| entry.operation == operation)
    }

    /// The requests about an app.
    pub fn about<'a>(&'a self, app: &'a str) -> impl Iterator<Item = &'a RequestEntry> {
        self.requests
            .iter()
            .filter(move |entry| entry.app.as_deref() == Some(app))
    }

    /// The requests that a fault struck.
    pub fn struck_by(&self, fault: FaultId) -> impl Iterator<Item = &RequestEntry> {
        self.requests.iter().filter(move |entry| entry.faults.contains(&fault))
    }

    /// How many resets of an app did something, half ones included.
    pub fn resets_applied(&self, app: &str) -> usize {
        self.acts_applied(app, Cause::Reset)
    }

    /// How many executions of a kind did something to an app.
    pub fn acts_applied(&self, app: &str, cause: Cause) -> usize {
        let matching = self
            .effects
            .iter()
            .filter(|effect| effect.app == app && effect.cause == cause);
        let mut acts: Vec<u64> = matching.map(|effect| effect.act).collect();
        acts.dedup();
        acts.len()
    }

    /// Every code that the app ever had, oldest first.
    pub fn codes_ever(&self, app: &str) -> Vec<String> {
        let made = self
            .effects
            .iter()
            .filter(|effect| effect.app == app && effect.change == Change::Made);
        made.map(|effect| effect.code.clone()).collect()
    }

    /// The codes that the app has now, oldest first.
    pub fn live_codes(&self, app: &str) -> Vec<String> {
        let mut codes = Vec::new();
        for effect in self.effects.iter().filter(|effect| effect.app == app) {
            match effect.change {
                Change::Made => codes.push(effect.code.clone()),
                Change::Removed => codes.retain(|code| *code != effect.code),
            }
        }
        codes
    }

    /// Place of a code in the order in which the app's codes were made; the higher, the newer.
    pub fn age_rank(&self, app: &str, code: &str) -> Option<usize> {
        self.codes_ever(app).iter().position(|made| made == code)
    }

    /// Everything that a log must never hold: all codes ever made.
    pub fn secrets(&self) -> Vec<String> {
        let made = self.effects.iter().filter(|effect| effect.change == Change::Made);
        made.map(|effect| effect.code.clone()).collect()
    }

    pub(crate) fn next_number(&self) -> u64 {
        self.requests.len() as u64 + 1
    }

    pub(crate) fn acts(&self) -> u64 {
        self.acts
    }

    pub(crate) fn next_act(&mut self) -> u64 {
        self.acts += 1;
        self.acts
    }

    pub(crate) fn entry(&mut self, number: u64) -> Option<&mut RequestEntry> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.requests.get_mut(index)
    }

    pub(crate) fn record(&mut self, effect: Effect) {
        self.mark_effect(effect.request);
        self.effects.push(effect);
    }

    pub(crate) fn mark_effect(&mut self, request: Option<u64>) {
        if let Some(entry) = request.and_then(|number| self.entry(number)) {
            entry.had_effect = true;
        }
    }

    pub(crate) fn refused(&mut self, number: u64, body: String) {
        if let Some(entry) = self.entry(number) {
            entry.refusal = Some(body);
        }
    }

    pub(crate) fn answered(&mut self, number: u64, answered: Answered, error_code: Option<String>) {
        if let Some(entry) = self.entry(number) {
            entry.answered = answered;
            if error_code.is_some() {
                entry.error_code = error_code;
            }
        }
    }
}
