//! What is asked about the resources that the queue knows: who shares what, how many wait, what metrics show.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use super::state::{Entry, Stake, secret};
use super::{Key, Queue};
use crate::controller::signs::Census;
use crate::modelarts::Fleet;

/// Another resource of the same app or with the same target Secret, as the watch last saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Which.
    pub key: Key,
    /// The Secret that its spec names.
    pub target: String,
    /// Whether it names the same app.
    pub is_on_app: bool,
}

/// The others that a resource has to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbours {
    /// Of each kind, those that may have a code first, then by age.
    pub nearest: Vec<Neighbour>,
    /// Whether as many others of the app as are looked at are older and may have a code.
    pub is_crowded: bool,
}

impl Queue {
    /// The Secrets that resources name, of those that `is_wanted` by namespace and name.
    pub fn targets(&self, is_wanted: impl Fn(&str, &str) -> bool) -> Vec<Key> {
        let inner = self.lock();
        let targets = inner
            .entries
            .iter()
            .map(|(key, entry)| (key.namespace(), entry.target.as_deref().unwrap_or(key.name())));
        let wanted = targets.filter(|(namespace, name)| is_wanted(namespace, name));
        wanted.map(|(namespace, name)| Key::new(namespace, name)).collect()
    }

    /// Whether a resource names this Secret.
    pub fn is_target(&self, namespace: &str, name: &str) -> bool {
        !self.lock().on_secret(namespace, name).is_empty()
    }

    /// The Secret that the spec of `key` named when the watch last saw it.
    pub fn target(&self, key: &Key) -> String {
        let inner = self.lock();
        let target = inner.entries.get(key).and_then(|entry| entry.target.as_deref());
        target.unwrap_or(key.name()).to_owned()
    }

    /// Whether a resource that was made at `created` went before the one of its name was made that the watch has seen.
    pub fn is_former(&self, key: &Key, created: Timestamp) -> bool {
        let inner = self.lock();
        let known = inner.entries.get(key).filter(|entry| !entry.is_deleted);
        known.is_some_and(|entry| created.as_second() < entry.created)
    }

    /// Other resources of the same app, and those of other apps with the same target Secret: at most `most` of each.
    pub fn neighbours(&self, key: &Key, most: usize) -> Neighbours {
        struct Other<'a> {
            key: &'a Key,
            entry: &'a Entry,
            is_on_app: bool,
        }
        let inner = self.lock();
        let Some(us) = inner.entries.get(key) else {
            return Neighbours::default();
        };
        let target = us.target.as_deref().unwrap_or(key.name());
        let namesake = Key::new(key.namespace(), target);
        let on_app = inner.apps.members(us.ties.app);
        let on_secret = inner.secrets.members(secret(key.namespace(), target));
        let keys: BTreeSet<&Key> = on_app.chain(on_secret).chain([&namesake]).collect();
        let other = |other| {
            let entry = inner.entries.get(other)?;
            let is_on_app = entry.ties.app == us.ties.app;
            let its_target = entry.target.as_deref().unwrap_or(other.name());
            let is_on_secret = other.namespace() == key.namespace() && its_target == target;
            (other != key && (is_on_app || is_on_secret)).then_some(Other {
                key: other,
                entry,
                is_on_app,
            })
        };
        let mut others: Vec<_> = keys.into_iter().filter_map(other).collect();
        others.sort_by_key(|other| (other.entry.stake, other.entry.created, other.key));
        let (on_app, elsewhere): (Vec<_>, Vec<_>) = others.into_iter().partition(|other| other.is_on_app);
        let is_before = |other: &&Other<'_>| {
            other.entry.stake == Stake::Code && (other.entry.created, other.key) < (us.created, key)
        };
        let neighbour = |other: &Other<'_>| Neighbour {
            key: other.key.clone(),
            target: other.entry.target.as_deref().unwrap_or(other.key.name()).to_owned(),
            is_on_app: other.is_on_app,
        };
        Neighbours {
            is_crowded: on_app.iter().filter(is_before).count() >= most,
            nearest: [on_app, elsewhere]
                .iter()
                .flat_map(|others| others.iter().take(most).map(neighbour))
                .collect(),
        }
    }

    /// How many resources share the credentials of `key`, and how many there are.
    pub fn fleet(&self, key: &Key) -> Fleet {
        let inner = self.lock();
        let caller = inner.entries.get(key).map(|entry| entry.ties.caller);
        let of_caller = caller.and_then(|caller| inner.callers.get(&caller));
        Fleet {
            of_caller: of_caller.copied().unwrap_or_default(),
            whole: inner.entries.len(),
        }
    }

    /// How many resources wait for a turn that is due, and how many of them use the same credentials at most.
    pub fn overdue(&self) -> Fleet {
        let now = self.clock.uptime();
        let inner = self.lock();
        let due = inner.due.iter().take_while(|(due, _)| *due <= now).map(|(_, key)| key);
        let mut fleet = Fleet::default();
        let mut of_caller: HashMap<u64, usize> = HashMap::new();
        for entry in inner.urgent.iter().chain(due).filter_map(|key| inner.entries.get(key)) {
            let count = of_caller.entry(entry.ties.caller).or_default();
            *count += 1;
            fleet.of_caller = fleet.of_caller.max(*count);
            fleet.whole += 1;
        }
        fleet
    }

    /// What metrics show of all resources, and one by one of the `most` oldest. They wait for a worker from the uptime
    /// `led_since` on at the earliest; without it there is no worker that they wait for.
    pub fn census(&self, now: Timestamp, most: usize, led_since: Option<Duration>) -> Census {
        let uptime = self.clock.uptime();
        let mut census = Census::default();
        let inner = self.lock();
        let due = inner.due.iter().map(|(due, _)| *due);
        let urgent = inner.urgent.iter().filter_map(|key| inner.entries.get(key)?.due);
        if let Some(led_since) = led_since {
            for since in due.take_while(|due| *due <= uptime).chain(urgent) {
                census.waiting += 1;
                census.longest_wait = census.longest_wait.max(uptime.saturating_sub(since.max(led_since)));
            }
        }
        let mut known: Vec<_> = inner.entries.iter().filter(|(_, entry)| !entry.is_deleted).collect();
        for (_, entry) in &known {
            census.count(&entry.signs, now.as_second());
        }
        let age = |(key, entry): &(&Key, &Entry)| (entry.created, (*key).clone());
        if most < known.len() {
            known.select_nth_unstable_by_key(most, age);
            known.truncate(most);
        }
        known.sort_unstable_by_key(age);
        census.shown = known
            .into_iter()
            .map(|(key, entry)| (key.clone(), entry.signs))
            .collect();
        census
    }
}
