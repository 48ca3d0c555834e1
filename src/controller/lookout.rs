//! The optional watch on our Secrets: who changes or deletes one brings the next pass over its resource forward.
//!
//! It decides nothing and keeps no Secret: of each that a pass has seen it keeps two hashes, and more only of those that somebody
//! else has just changed. Whatever it misses is found by the resource's next check, as without it.

#[cfg(test)]
mod tests;
mod watch;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

pub(super) use self::watch::Watch;
use super::lock;
use super::queue::{Haste, Key, Queue, hash, secret};
use crate::clock::Clock;

/// How long after a change a pass looks at it: by then a write of our own is known, and changes in a row are one.
const LEAST: Duration = Duration::from_secs(2);
/// Longest pause between two passes over a Secret that is changed again and again; each is twice as long as the one before.
const MOST: Duration = Duration::from_secs(5 * 60);
/// After so long without a pass for its sake, a Secret is looked at soon again.
const FORGET: Duration = Duration::from_secs(10 * 60);
/// How long nothing is to be done if nothing is due.
const LONG: Duration = Duration::from_secs(60 * 60);

/// What the watch on Secrets has told, held against what passes have seen. A Secret is named by namespace and name, as a
/// resource is.
pub struct Lookout {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// The version in which the last pass saw or left each Secret, both hashed.
    known: HashMap<u64, u64>,
    alarms: HashMap<Key, Alarm>,
}

/// A Secret that was changed lately, perhaps by us.
#[derive(Default)]
struct Alarm {
    /// Its version, hashed; none once it is deleted.
    version: Option<u64>,
    /// When its resource gets a turn, unless a pass has seen that version by then.
    due: Option<Duration>,
    /// When one last got a turn for its sake.
    woken: Option<Duration>,
    /// How many did in a row.
    streak: u32,
}

impl Alarm {
    /// When its resource may have the next turn.
    fn next(&self, now: Duration) -> Duration {
        let pause = LEAST.saturating_mul(2_u32.saturating_pow(self.streak)).min(MOST);
        let again = self.woken.map_or(Duration::ZERO, |woken| woken.saturating_add(pause));
        again.max(now.saturating_add(LEAST))
    }

    fn is_over(&self, now: Duration) -> bool {
        self.due.is_none() && self.woken.is_none_or(|woken| now.saturating_sub(woken) > FORGET)
    }
}

impl Lookout {
    /// One that knows nothing yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            inner: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// A pass has seen a Secret in this version, or left it so; none where there is no such Secret of ours.
    pub fn seen(&self, namespace: &str, name: &str, version: Option<&str>) {
        let place = secret(namespace, name);
        let mut inner = self.lock();
        match version {
            Some(version) => drop(inner.known.insert(place, hash(&version))),
            None => drop(inner.known.remove(&place)),
        }
    }

    /// No resource names this Secret any more.
    pub(super) fn forget(&self, namespace: &str, name: &str) {
        let mut inner = self.lock();
        inner.known.remove(&secret(namespace, name));
        inner.alarms.remove(&Key::new(namespace, name));
    }

    /// The watch tells that a Secret has this version now, or that it is gone.
    pub fn changed(&self, namespace: &str, name: &str, version: Option<&str>) {
        let key = Key::new(namespace, name);
        let version = version.map(|version| hash(&version));
        let now = self.clock.uptime();
        let mut inner = self.lock();
        let is_known = inner.known.get(&secret(namespace, name)).copied() == version;
        if is_known && !inner.alarms.contains_key(&key) {
            return;
        }
        let alarm = inner.alarms.entry(key).or_default();
        alarm.version = version;
        if !is_known && alarm.due.is_none() {
            alarm.due = Some(alarm.next(now));
        }
    }

    /// A listing shows a Secret in this version. It counts only if a pass has seen another one: what none has seen yet is
    /// looked at anyway.
    fn listed(&self, namespace: &str, name: &str, version: &str) {
        let known = self.lock().known.get(&secret(namespace, name)).copied();
        if known.is_some_and(|known| known != hash(&version)) {
            self.changed(namespace, name, Some(version));
        }
    }

    /// A listing of the namespaces that `is_listed` names shows no others than these, by their hashes.
    fn end_listing(&self, shown: &HashSet<u64>, queue: &Queue, is_listed: impl Fn(&str) -> bool) {
        let gone = queue.targets(|namespace, name| {
            let place = secret(namespace, name);
            is_listed(namespace) && !shown.contains(&place) && self.lock().known.contains_key(&place)
        });
        for key in gone {
            self.changed(key.namespace(), key.name(), None);
        }
    }

    /// Gives resources their turns whose Secret somebody else has changed. Returns how many Secrets that were, and when to
    /// call it again at the latest.
    pub fn wake(&self, queue: &Queue) -> (usize, Duration) {
        let now = self.clock.uptime();
        let due = self.lock().take_due(now);
        let mut woken = 0;
        for key in due {
            // The queue is asked without the lock: it asks back while it has its own.
            let haste = queue.hasten(key.namespace(), key.name());
            woken += usize::from(haste == Haste::Hastened);
            self.lock().answer(&key, haste, now);
        }
        let next = self.lock().alarms.values().filter_map(|alarm| alarm.due).min();
        (
            woken,
            next.map_or(LONG, |due| due.saturating_sub(now).max(Duration::from_millis(1))),
        )
    }

    /// Of how many Secrets it is kept what passes have seen.
    pub fn known(&self) -> usize {
        self.lock().known.len()
    }

    /// Of how many Secrets anything is kept beside what passes have seen.
    pub fn alarms(&self) -> usize {
        self.lock().alarms.len()
    }
}

impl Inner {
    /// Those whose time has come and whose version no pass has seen.
    fn take_due(&mut self, now: Duration) -> Vec<Key> {
        let Self { known, alarms, .. } = self;
        let mut due = Vec::new();
        alarms.retain(|key, alarm| {
            if alarm.due.is_some_and(|at| at <= now) {
                alarm.due = None;
                if known.get(&secret(key.namespace(), key.name())).copied() != alarm.version {
                    due.push(key.clone());
                    return true;
                }
            }
            !alarm.is_over(now)
        });
        due
    }

    /// Takes in what became of one that was due.
    fn answer(&mut self, key: &Key, haste: Haste, now: Duration) {
        match haste {
            Haste::Hastened => {
                if let Some(alarm) = self.alarms.get_mut(key) {
                    alarm.woken = Some(now);
                    alarm.streak = alarm.streak.saturating_add(1);
                }
            }
            // What that pass has read may be older.
            Haste::Busy => {
                if let Some(alarm) = self.alarms.get_mut(key) {
                    alarm.due.get_or_insert(now.saturating_add(LEAST));
                }
            }
            Haste::Needless => {}
            Haste::Nobody => {
                self.known.remove(&secret(key.namespace(), key.name()));
                self.alarms.remove(key);
            }
        }
    }
}
