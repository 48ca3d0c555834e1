//! The whole cloud as a value: who there is, which apps and codes, what was ordered to go wrong and what happened.
//!
//! A request passes through in two steps, so that time can go by between them: [`Cloud::arrive`] authenticates it and
//! picks the faults that strike it, [`Cloud::serve`] does the work. Nothing here waits, reads a clock or does I/O.

mod apps;
mod authenticate;
mod behaviour;
mod calls;
mod change;
mod codes;
mod execute;
mod gateway;
mod identity;
mod orders;
mod pass;
mod signin;
mod stored;

use std::collections::BTreeMap;

use jiff::Timestamp;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngExt, SeedableRng};

pub use apps::{App, AppType, Codes, NewApp};
pub use behaviour::{Behaviour, CodePosition, GatewayPrefix, UnknownCode};
pub use calls::{AppRequest, Call, ListQuery, Operation};
pub use gateway::Service;
pub use identity::{Account, Caller, Key, TemporaryKey, User};
pub use pass::{Arrival, Delivery, Outcome};

use crate::auth::hex;
use crate::faults::{Fault, FaultId, Faults};
use crate::ledger::{Answered, Ledger};
use crate::wire::Answer;

/// The cloud.
#[derive(Debug, Clone)]
pub struct Cloud {
    /// How it behaves where the documentation leaves it open. May be changed at any time.
    pub behaviour: Behaviour,
    random: SmallRng,
    identities: identity::Identities,
    workspaces: BTreeMap<String, Vec<String>>,
    apps: BTreeMap<String, stored::StoredApp>,
    codes: BTreeMap<String, codes::CodeRecord>,
    services: BTreeMap<String, Service>,
    faults: Faults,
    held: BTreeMap<u64, (FaultId, Answer)>,
    late: Vec<pass::Late>,
    ledger: Ledger,
    /// Texts that no request should hold, and how many held one.
    unwanted: (Vec<String>, usize),
}

impl Cloud {
    /// An empty cloud. The seed decides every id, key and code that it will make.
    pub fn new(seed: u64, behaviour: Behaviour) -> Self {
        Self {
            behaviour,
            random: SmallRng::seed_from_u64(seed),
            identities: identity::Identities::default(),
            workspaces: BTreeMap::new(),
            apps: BTreeMap::new(),
            codes: BTreeMap::new(),
            services: BTreeMap::new(),
            faults: Faults::default(),
            held: BTreeMap::new(),
            late: Vec::new(),
            ledger: Ledger::default(),
            unwanted: (Vec::new(), 0),
        }
    }

    /// What happened so far. Call [`Cloud::advance`] first where late effects may be due.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Orders a fault.
    pub fn inject(&mut self, fault: Fault) -> FaultId {
        self.faults.order(fault, self.ledger.acts())
    }

    /// Ends a fault. What it did, holds or has still to do stays; [`Cloud::release`] ends that. False if there is none.
    pub fn clear(&mut self, id: FaultId) -> bool {
        self.faults.clear(id)
    }

    /// Ends all faults, as [`Cloud::clear`] does.
    pub fn clear_all(&mut self) {
        self.faults.clear_all();
    }

    /// The faults in force, with the number of calls they have left.
    pub fn faults(&self) -> Vec<(FaultId, Fault)> {
        self.faults.list()
    }

    /// Does the late work of a fault and lets the answers go that it holds. Returns how many of both there were.
    pub fn release(&mut self, now: Timestamp, id: FaultId) -> usize {
        let due: Vec<pass::Late> = self.late.extract_if(.., |late| late.fault == id).collect();
        let released = due.len();
        for late in &due {
            self.do_late(now, late);
        }
        let held: Vec<u64> = self
            .held
            .iter()
            .filter(|(_, (fault, _))| *fault == id)
            .map(|(number, _)| *number)
            .collect();
        for number in &held {
            if let Some((_, answer)) = self.held.remove(number) {
                self.ledger.answered(*number, Answered::Status(answer.status), None);
            }
        }
        released + held.len()
    }

    /// Whether a request's answer is kept back.
    pub fn is_held(&self, number: u64) -> bool {
        self.held.contains_key(&number)
    }

    /// Does late work that is due.
    pub fn advance(&mut self, now: Timestamp) {
        let mut due: Vec<pass::Late> = self
            .late
            .extract_if(.., |late| late.due.is_some_and(|due| due <= now))
            .collect();
        due.sort_by_key(|late| late.due);
        for late in &due {
            let then = late.due.unwrap_or(now);
            self.do_late(then, late);
        }
    }

    /// Whether work of a call that was answered is still to be done.
    pub fn is_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// When the next late work is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        self.late.iter().filter_map(|late| late.due).min()
    }

    /// 32 hex digits, as most ids and keys are.
    pub(crate) fn new_id(&mut self) -> String {
        let mut bytes = [0; 16];
        self.random.fill_bytes(&mut bytes);
        hex(&bytes)
    }

    /// A random UUID (version 4) without hyphens.
    fn new_uuid(&mut self) -> String {
        let mut bytes = [0; 16];
        self.random.fill_bytes(&mut bytes);
        let [.., version, _, variant, _, _, _, _, _, _, _] = &mut bytes;
        *version = (*version & 0x0f) | 0x40;
        *variant = (*variant & 0x3f) | 0x80;
        hex(&bytes)
    }

    fn new_text(&mut self, length: usize, alphabet: &[u8]) -> String {
        let pick = |random: &mut SmallRng| alphabet.get(random.random_range(..alphabet.len())).copied();
        (0..length)
            .filter_map(|_| pick(&mut self.random))
            .map(char::from)
            .collect()
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        items.shuffle(&mut self.random);
    }
}
