//! What wakes the operator: a few hundred bytes for each resource, and which one is next.
//!
//! The watch fills it, workers empty it. It knows when to look at a resource and which resources share an app, a Secret or
//! credentials, and it never decides anything: what decides is read live. Somebody's change goes before all that is merely due. A resource
//! is never handed out twice at a time.

mod known;
mod state;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

pub use self::known::{Neighbour, Neighbours};
use self::state::{Entry, Inner, Stake, Ties, other_target};
pub(super) use self::state::{hash, secret};
use super::notice::Notice;
use crate::clock::Clock;

/// How often a worker asks for a turn at least, which shows that it is there.
const PULSE: Duration = Duration::from_secs(60);
/// Urgent turns in a row after which one that is due has its turn.
const MOST_URGENT: u8 = 4;

/// `namespace/name` of a resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// The key of a resource.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self(format!("{namespace}/{name}").into())
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.0.split_once('/').map_or("", |(namespace, _)| namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, name)| name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A resource whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Which.
    pub key: Key,
    /// Whether somebody changed it, so that back-off does not hold.
    pub nudged: bool,
    /// How long it was due.
    pub waited: Duration,
}

/// What came of the wish for an early turn; of several resources, what matters most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Haste {
    /// Nobody names the Secret.
    Nobody,
    /// The turn had come anyway.
    Needless,
    /// It comes now.
    Hastened,
    /// A worker has the resource in hand, and may have read the Secret already.
    Busy,
}

/// Whether turns are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Uptime at which a worker last asked for a turn, or at which workers were started; none before that.
    pub asked: Option<Duration>,
    /// How many turns are in hand.
    pub running: usize,
    /// The one that has been so for longest, and since which uptime.
    pub longest: Option<(Key, Duration)>,
}

/// The queue. All methods are quick and never wait, except [`Queue::next`].
pub struct Queue {
    inner: Mutex<Inner>,
    changed: Notify,
    clock: Arc<dyn Clock>,
}

impl Queue {
    /// An empty queue.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            inner: Mutex::default(),
            changed: Notify::new(),
            clock,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics half-way through a change, so a poisoned lock still guards a sound state.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the watch saw. `round` counts the listings. A resource of the first listing is a person's nudge only
    /// if its spec was made or changed while nobody looked; these go before all that fell due meanwhile.
    pub fn apply(&self, notice: &Notice, is_listing: bool, round: u32) {
        let key = notice.key();
        let touch = hash(&(
            &notice.uid,
            notice.generation,
            &notice.request,
            &notice.adopt,
            &notice.check,
            notice.deleting,
        ));
        let target = other_target(notice).map(Box::from);
        let of_caller = notice.credentials.as_ref().map(|name| (&notice.namespace, name));
        let ties = Ties {
            app: hash(&notice.app),
            caller: hash(&of_caller),
        };
        let created = notice.created.as_second();
        let now = self.clock.uptime();
        let mut inner = self.lock();
        let Some(entry) = inner.entries.get_mut(&key) else {
            let entry = Entry {
                created,
                touch,
                ties,
                target,
                stake: Stake::of(notice),
                signs: notice.signs,
                due: None,
                nudged: false,
                is_urgent: false,
                is_deleted: false,
                failures: 0,
                round,
            };
            inner.entries.insert(key.clone(), entry);
            inner.tie(ties, other_target(notice), &key);
            let is_again = inner.running.contains_key(&key);
            let is_unseen = notice.observed != Some(notice.generation);
            inner.wake(&key, now, !is_listing || is_again || is_unseen);
            drop(inner);
            self.changed.notify_one();
            return;
        };
        entry.round = round;
        entry.is_deleted = false;
        entry.created = created;
        let former_target = std::mem::replace(&mut entry.target, target);
        entry.stake = Stake::of(notice);
        entry.signs = notice.signs;
        let former = std::mem::replace(&mut entry.ties, ties);
        let is_changed = std::mem::replace(&mut entry.touch, touch) != touch;
        if former != ties || former_target != entry.target {
            inner.untie(former, former_target.as_deref(), &key);
            inner.tie(ties, other_target(notice), &key);
            inner.stir(former, former_target.as_deref(), &key, now);
        }
        if is_changed {
            inner.wake(&key, now, true);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Takes in that a resource was deleted, and says whether it is forgotten: while a worker has it in hand, or it `is_held`, it is
    /// kept and gets a turn now, until [`Queue::finished`]. No worker takes it in between.
    pub fn deleted(&self, key: &Key, is_held: impl FnOnce() -> bool) -> bool {
        let now = self.clock.uptime();
        let mut inner = self.lock();
        let is_kept = inner.running.contains_key(key) || is_held();
        if !is_kept {
            inner.forget(key, now);
        } else if let Some(entry) = inner.entries.get_mut(key) {
            entry.is_deleted = true;
            inner.wake(key, now, true);
        }
        drop(inner);
        self.changed.notify_one();
        !is_kept
    }

    /// Gives a resource a turn now, since something that it rests on was changed.
    pub fn nudge(&self, key: &Key) {
        let now = self.clock.uptime();
        self.lock().wake(key, now, true);
        self.changed.notify_one();
    }

    /// Gives those who name this Secret an ordinary turn now, unless it comes at once anyway: back-off holds in it.
    pub fn hasten(&self, namespace: &str, name: &str) -> Haste {
        let now = self.clock.uptime();
        let mut inner = self.lock();
        let mut haste = Haste::Nobody;
        for key in inner.on_secret(namespace, name) {
            let due = inner.entries.get(&key).and_then(|entry| entry.due);
            haste = haste.max(if inner.running.contains_key(&key) {
                Haste::Busy
            } else if due.is_some_and(|due| due <= now) {
                Haste::Needless
            } else {
                inner.wake(&key, now, false);
                Haste::Hastened
            });
        }
        drop(inner);
        self.changed.notify_one();
        haste
    }

    /// What the listing of `round` did not see in the namespaces that `is_listed` names.
    pub fn unseen(&self, round: u32, is_listed: impl Fn(&str) -> bool) -> Vec<Key> {
        let inner = self.lock();
        let is_unseen = |(key, entry): &(&Key, &Entry)| entry.round != round && is_listed(key.namespace());
        let unseen = inner.entries.iter().filter(is_unseen);
        unseen.map(|(key, _)| key.clone()).collect()
    }

    /// From now on there are workers that ask for turns.
    pub fn open(&self) {
        let now = self.clock.uptime();
        self.lock().asked.get_or_insert(now);
    }

    /// The next resource, as soon as there is one whose time has come.
    pub async fn next(&self) -> Turn {
        loop {
            let changed = self.changed.notified();
            let wait = match self.pop() {
                Ok(turn) => {
                    self.changed.notify_one(); // another worker may find more
                    return turn;
                }
                Err(wait) => wait,
            };
            tokio::select! {
                () = changed => {}
                () = self.clock.sleep(wait.min(PULSE)) => {}
            }
        }
    }

    /// The next resource whose time has come, or how long there is none.
    ///
    /// # Errors
    /// The time until the next one is due.
    pub fn pop(&self) -> Result<Turn, Duration> {
        const LONG: Duration = Duration::from_secs(3600);
        let now = self.clock.uptime();
        let mut inner = self.lock();
        inner.asked = Some(now);
        let overdue = inner
            .due
            .first()
            .filter(|(due, _)| *due <= now)
            .map(|(_, key)| key.clone());
        // However much is edited, what is due gets a turn now and then.
        let is_its_turn = overdue.is_some() && inner.streak >= MOST_URGENT;
        let urgent = if is_its_turn { None } else { inner.urgent.pop_front() };
        inner.streak = if urgent.is_some() {
            inner.streak.saturating_add(1)
        } else {
            0
        };
        let Some(key) = urgent.or(overdue) else {
            return Err(inner.due.first().map_or(LONG, |(due, _)| due.saturating_sub(now)));
        };
        inner.take(&key, now).ok_or(Duration::ZERO)
    }

    /// The turn of this resource, if its time has come and no worker has it in hand.
    pub fn pop_one(&self, key: &Key) -> Option<Turn> {
        let now = self.clock.uptime();
        let mut inner = self.lock();
        let entry = inner.entries.get(key)?;
        let is_time = entry.is_urgent || entry.due.is_some_and(|due| due <= now);
        if !is_time || inner.running.contains_key(key) {
            return None;
        }
        inner.urgent.retain(|urgent| urgent != key);
        inner.take(key, now)
    }

    /// Whether turns are taken.
    pub fn pulse(&self) -> Pulse {
        let inner = self.lock();
        let longest = inner.running.iter().min_by_key(|(_, running)| running.since);
        Pulse {
            asked: inner.asked,
            running: inner.running.len(),
            longest: longest.map(|(key, running)| (key.clone(), running.since)),
        }
    }

    /// A turn is over; the next one comes after `wait`, or at once if something changed meanwhile. It is `nudged` again
    /// if this one has not seen a change through.
    pub fn done(&self, key: &Key, wait: Duration, nudged: bool) {
        self.end(key, nudged, |_| wait);
    }

    /// A turn is over and found nothing left to do: a resource that the watch saw deleted is forgotten, another one is
    /// looked for again after `retry`. What else is known of it is to `forget` before anybody can take it again.
    pub fn finished(&self, key: &Key, retry: Duration, forget: impl FnOnce()) {
        let now = self.clock.uptime();
        let mut inner = self.lock();
        // The watch may tell of one that is made again at any time: it is not forgotten with this one.
        let is_deleted = inner.entries.get(key).is_some_and(|entry| entry.is_deleted);
        if is_deleted {
            inner.forget(key, now);
            forget();
        }
        drop(inner);
        self.end(key, false, |_| retry);
        self.changed.notify_one();
    }

    /// A turn failed; the next one comes after `pause` of the number of failures in a row, and is `nudged` as this was.
    pub fn failed(&self, key: &Key, nudged: bool, pause: impl FnOnce(u32) -> Duration) {
        self.end(key, nudged, |entry| {
            entry.failures = entry.failures.saturating_add(1);
            pause(u32::from(entry.failures))
        });
    }

    fn end(&self, key: &Key, nudged: bool, wait: impl FnOnce(&mut Entry) -> Duration) {
        let now = self.clock.uptime();
        let mut inner = self.lock();
        let again = inner.running.remove(key).is_some_and(|running| running.again);
        let Some(entry) = inner.entries.get_mut(key) else {
            return;
        };
        let failures = entry.failures;
        let wait = wait(entry);
        if entry.failures == failures {
            entry.failures = 0;
        }
        entry.nudged |= nudged;
        inner.wake(key, if again { now } else { now.saturating_add(wait) }, again);
        drop(inner);
        self.changed.notify_one();
    }

    /// Whether a worker has it in hand.
    pub fn is_running(&self, key: &Key) -> bool {
        self.lock().running.contains_key(key)
    }

    /// How many resources it knows.
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
