//! What wakes the operator: a few hundred bytes for each resource, and which one is next.
//!
//! The watch fills it, workers empty it. It knows when to look at a resource and which resources share an app, a Secret or
//! credentials, and it never decides anything: what decides is read live. Somebody's change goes before all that is merely due. A resource
//! is never handed out twice at a time.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use super::notice::Notice;
use super::signs::{Census, Signs};
use crate::clock::Clock;
use crate::modelarts::Fleet;

/// Resources that get a turn when one goes that they may have waited for.
const MOST_STIRRED: usize = 8;
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

/// The others that a resource has to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbours {
    /// Of each kind, those that may have a code first, then by age.
    pub nearest: Vec<Neighbour>,
    /// Whether as many others of the app as are looked at are older and may have a code.
    pub is_crowded: bool,
}

struct Entry {
    /// Seconds since 1970, as Kubernetes tells it.
    created: i64,
    /// Uid, generation and annotations that matter, hashed: another value means that somebody changed something.
    touch: u64,
    ties: Ties,
    /// The Secret that spec names, where it is not the resource's own name.
    target: Option<Box<str>>,
    stake: Stake,
    signs: Signs,
    /// Since when its turn is due, or from when on.
    due: Option<Duration>,
    /// Whether somebody changed it and no pass has seen that through.
    nudged: bool,
    /// Whether it stands in the line of those that go first.
    is_urgent: bool,
    /// Whether the resource is gone, and only a code that was not saved keeps it here.
    is_deleted: bool,
    failures: u16,
    /// Round of the watch's listing that saw it last.
    round: u32,
}

/// What a resource may have that others must not touch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stake {
    /// A code, or a call that may make one.
    Code,
    Nothing,
}

impl Stake {
    fn of(notice: &Notice) -> Self {
        if notice.is_bystander { Self::Nothing } else { Self::Code }
    }
}

/// What a resource may share with others, hashed.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ties {
    app: u64,
    caller: u64,
}

/// Resources in groups, by what they share. Most are alone in theirs, so that a list for each would cost more than it holds.
#[derive(Default)]
struct Groups(BTreeSet<(u64, Key)>);

impl Groups {
    fn join(&mut self, group: u64, key: &Key) {
        self.0.insert((group, key.clone()));
    }

    fn leave(&mut self, group: u64, key: &Key) {
        self.0.remove(&(group, key.clone()));
    }

    fn members(&self, group: u64) -> impl Iterator<Item = &Key> {
        let first = (group, Key("".into()));
        let from = self.0.range(first..).take_while(move |(other, _)| *other == group);
        from.map(|(_, key)| key)
    }
}

#[derive(Default)]
struct Inner {
    entries: HashMap<Key, Entry>,
    /// What a worker has in hand. Kept apart from the entries: a resource that is deleted and made again during its turn
    /// must not be handed to a second worker.
    running: HashMap<Key, Running>,
    /// Uptime at which a worker last asked for a turn, or was told to.
    asked: Option<Duration>,
    due: BTreeSet<(Duration, Key)>,
    urgent: VecDeque<Key>,
    /// Urgent turns in a row.
    streak: u8,
    apps: Groups,
    /// Resources by the Secret that they name by a name that is not their own: most have theirs, and need no place here.
    secrets: Groups,
    /// How many resources use the same credentials.
    callers: HashMap<u64, usize>,
}

/// A turn that a worker has in hand.
struct Running {
    since: Duration,
    /// Whether the resource was changed meanwhile.
    again: bool,
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

    /// Forgets a resource that was deleted. Others may have waited for what it claimed.
    pub fn remove(&self, key: &Key) {
        let now = self.clock.uptime();
        let mut inner = self.lock();
        if let Some(entry) = inner.remove(key) {
            inner.stir(entry.ties, entry.target.as_deref(), key, now);
        }
        drop(inner);
        self.changed.notify_one();
    }

    /// Keeps a resource that was deleted, and gives it a turn now, until [`Queue::finished`].
    pub fn outlive(&self, key: &Key) {
        let now = self.clock.uptime();
        let mut inner = self.lock();
        if let Some(entry) = inner.entries.get_mut(key) {
            entry.is_deleted = true;
            inner.wake(key, now, true);
        }
        drop(inner);
        self.changed.notify_one();
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
    /// looked for again after `retry`.
    pub fn finished(&self, key: &Key, retry: Duration) {
        let mut inner = self.lock();
        if inner.entries.get(key).is_some_and(|entry| entry.is_deleted) {
            inner.remove(key);
        }
        drop(inner);
        self.end(key, false, |_| retry);
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

    /// Whether a worker has it in hand.
    pub fn is_running(&self, key: &Key) -> bool {
        self.lock().running.contains_key(key)
    }

    /// The Secret that the spec of `key` named when the watch last saw it.
    pub fn target(&self, key: &Key) -> String {
        let inner = self.lock();
        let target = inner.entries.get(key).and_then(|entry| entry.target.as_deref());
        target.unwrap_or(key.name()).to_owned()
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

    /// How many resources it knows.
    pub fn len(&self) -> usize {
        self.lock().entries.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Inner {
    /// Those who name this Secret.
    fn on_secret(&self, namespace: &str, name: &str) -> Vec<Key> {
        let namesake = Key::new(namespace, name);
        let others = self.secrets.members(secret(namespace, name));
        let is_on_it = |key: &&Key| {
            let target = self
                .entries
                .get(*key)
                .map(|entry| entry.target.as_deref().unwrap_or(key.name()));
            key.namespace() == namespace && target == Some(name)
        };
        others.chain([&namesake]).filter(is_on_it).cloned().collect()
    }

    /// Puts a resource into a worker's hand.
    fn take(&mut self, key: &Key, now: Duration) -> Option<Turn> {
        let entry = self.entries.get_mut(key)?;
        let nudged = std::mem::take(&mut entry.nudged);
        entry.is_urgent = false;
        let due = entry.due.take().unwrap_or(now);
        self.due.remove(&(due, key.clone()));
        let running = Running {
            since: now,
            again: false,
        };
        self.running.insert(key.clone(), running);
        Some(Turn {
            key: key.clone(),
            nudged,
            waited: now.saturating_sub(due),
        })
    }

    fn wake(&mut self, key: &Key, at: Duration, nudged: bool) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if let Some(running) = self.running.get_mut(key) {
            running.again |= nudged;
            return;
        }
        let due = entry.due.take();
        if let Some(due) = due {
            self.due.remove(&(due, key.clone()));
        }
        entry.due = Some(at);
        if nudged {
            entry.nudged = true;
            if !std::mem::replace(&mut entry.is_urgent, true) {
                self.urgent.push_back(key.clone());
            }
        }
        if entry.is_urgent {
            // It waits since its turn came, whatever came on top of that.
            entry.due = due.map_or(Some(at), |due| Some(due.min(at)));
        } else {
            self.due.insert((at, key.clone()));
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        if let Some(due) = entry.due {
            self.due.remove(&(due, key.clone()));
        }
        self.urgent.retain(|other| other != key);
        self.untie(entry.ties, entry.target.as_deref(), key);
        Some(entry)
    }

    /// Gives a turn to the oldest of those that shared something with `key` before it went.
    fn stir(&mut self, former: Ties, target: Option<&str>, key: &Key, now: Duration) {
        let target = target.unwrap_or(key.name());
        let namesake = Key::new(key.namespace(), target);
        let on_app = self.apps.members(former.app);
        let on_secret = self.secrets.members(secret(key.namespace(), target));
        let others = on_app.chain(on_secret).chain([&namesake]).filter(|other| *other != key);
        let mut others: Vec<_> = others
            .filter_map(|other| Some((self.entries.get(other)?.created, other.clone())))
            .collect();
        others.sort_unstable();
        others.dedup();
        others.truncate(MOST_STIRRED);
        for (_, other) in others {
            self.wake(&other, now, true);
        }
    }

    /// `target` is the Secret that spec names, where it is not the resource's own name.
    fn tie(&mut self, ties: Ties, target: Option<&str>, key: &Key) {
        self.apps.join(ties.app, key);
        if let Some(target) = target {
            self.secrets.join(secret(key.namespace(), target), key);
        }
        *self.callers.entry(ties.caller).or_default() += 1;
    }

    fn untie(&mut self, ties: Ties, target: Option<&str>, key: &Key) {
        self.apps.leave(ties.app, key);
        if let Some(target) = target {
            self.secrets.leave(secret(key.namespace(), target), key);
        }
        if let Some(count) = self.callers.get_mut(&ties.caller) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.callers.remove(&ties.caller);
            }
        }
    }
}

/// The Secret that spec names, where it is not the resource's own name.
fn other_target(notice: &Notice) -> Option<&str> {
    (notice.target != notice.name).then_some(&notice.target)
}

/// Stands for the Secret of that name.
pub(super) fn secret(namespace: &str, name: &str) -> u64 {
    hash(&(namespace, name))
}

pub(super) fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Still;

    fn notice(name: &str, generation: i64, app: &str) -> Notice {
        Notice {
            namespace: "ns".into(),
            name: name.into(),
            uid: format!("uid-{name}"),
            generation,
            observed: Some(1),
            created: Timestamp::UNIX_EPOCH,
            request: None,
            adopt: None,
            deleting: false,
            target: name.into(),
            app: ("endpoint".into(), "project".into(), app.into()),
            ..Notice::default()
        }
    }

    fn queue() -> (Queue, Arc<Still>) {
        let clock = Arc::new(Still::default());
        (Queue::new(Arc::clone(&clock) as Arc<dyn Clock>), clock)
    }

    fn names(queue: &Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop().ok())
            .map(|turn| turn.key.name().to_owned())
            .collect()
    }

    /// There may be tens of thousands: a field more is felt.
    #[test]
    fn what_is_kept_of_a_resource_is_small() {
        assert!(size_of::<Entry>() <= 88, "{}", size_of::<Entry>());
    }

    #[test]
    fn a_change_goes_before_what_is_merely_due() {
        let (queue, _) = queue();
        queue.apply(&notice("a", 1, "x"), true, 1);
        queue.apply(&notice("b", 1, "x"), true, 1);
        queue.apply(&notice("c", 1, "x"), false, 1);
        assert_eq!(names(&queue), ["c", "a", "b"]);
    }

    #[test]
    fn what_is_due_gets_a_turn_however_much_is_changed() {
        let (queue, _) = queue();
        queue.apply(&notice("due", 1, "x"), true, 1);
        let changed: Vec<String> = (0..6).map(|number| format!("changed-{number}")).collect();
        for name in &changed {
            queue.apply(&notice(name, 1, "x"), false, 1);
        }
        let order = names(&queue);
        assert_eq!(order.iter().position(|name| name == "due"), Some(4), "{order:?}");
    }

    #[test]
    fn what_was_made_or_changed_while_nobody_looked_goes_first() {
        let (queue, _) = queue();
        queue.apply(&notice("a", 1, "x"), true, 1);
        queue.apply(&notice("b", 2, "x"), true, 1);
        let new = Notice {
            observed: None,
            ..notice("c", 1, "x")
        };
        queue.apply(&new, true, 1);
        assert_eq!(names(&queue), ["b", "c", "a"]);
    }

    #[test]
    fn a_status_write_of_our_own_wakes_nobody() {
        let (queue, _) = queue();
        queue.apply(&notice("a", 1, "x"), false, 1);
        let turn = queue.pop().unwrap();
        queue.apply(&notice("a", 1, "x"), false, 1);
        queue.done(&turn.key, Duration::from_secs(60), false);
        queue.apply(&notice("a", 1, "x"), false, 1);
        assert_eq!(queue.pop(), Err(Duration::from_secs(60)));
    }

    #[test]
    fn a_change_during_a_turn_brings_another_turn_at_once() {
        let (queue, _) = queue();
        queue.apply(&notice("a", 1, "x"), true, 1);
        let turn = queue.pop().unwrap();
        assert!(!turn.nudged);
        queue.apply(&notice("a", 2, "x"), false, 1);
        assert!(queue.pop().is_err(), "never twice at a time");
        queue.done(&turn.key, Duration::from_secs(60), false);
        assert_eq!(
            queue.pop(),
            Ok(Turn {
                key: turn.key,
                nudged: true,
                waited: Duration::ZERO
            })
        );
    }

    #[test]
    fn a_resource_made_again_during_its_turn_waits_for_the_end_of_the_turn() {
        let (queue, _) = queue();
        queue.apply(&notice("a", 1, "x"), true, 1);
        let turn = queue.pop().unwrap();
        queue.remove(&turn.key);
        let mut again = notice("a", 1, "x");
        again.uid = "another".into();
        queue.apply(&again, true, 2);
        assert!(queue.pop().is_err());
        queue.done(&turn.key, Duration::from_secs(60), false);
        assert_eq!(queue.pop().unwrap().key, turn.key);
    }

    #[test]
    fn failures_in_a_row_are_counted_and_a_success_forgets_them() {
        let (queue, clock) = queue();
        queue.apply(&notice("a", 1, "x"), true, 1);
        let key = Key::new("ns", "a");
        for expected in 1..4 {
            queue.pop().unwrap();
            queue.failed(&key, false, |failures| {
                assert_eq!(failures, expected);
                Duration::from_secs(1)
            });
            *clock.0.lock().unwrap() += Duration::from_secs(1);
        }
        queue.pop().unwrap();
        queue.done(&key, Duration::ZERO, false);
        queue.pop().unwrap();
        queue.failed(&key, false, |failures| Duration::from_secs(u64::from(failures)));
        assert_eq!(queue.pop(), Err(Duration::from_secs(1)));
    }

    #[test]
    fn a_change_that_was_not_seen_through_is_not_forgotten_and_waits_its_time() {
        let (queue, clock) = queue();
        queue.apply(&notice("a", 1, "x"), false, 1);
        let turn = queue.pop().unwrap();
        queue.failed(&turn.key, turn.nudged, |_| Duration::from_secs(1));
        assert_eq!(queue.pop(), Err(Duration::from_secs(1)));
        *clock.0.lock().unwrap() += Duration::from_secs(1);
        let turn = queue.pop().unwrap();
        assert!(turn.nudged);
        queue.done(&turn.key, Duration::from_secs(10), true);
        assert_eq!(queue.pop(), Err(Duration::from_secs(10)));
        queue.apply(&notice("a", 2, "x"), false, 1);
        assert!(queue.pop().unwrap().nudged, "another change does not wait");
    }

    #[test]
    fn a_deleted_resource_keeps_its_turns_until_it_is_finished() {
        let (queue, _) = queue();
        queue.apply(&notice("a", 1, "x"), true, 1);
        let turn = queue.pop().unwrap();
        queue.outlive(&turn.key);
        queue.done(&turn.key, Duration::from_secs(1), false);
        assert_eq!(queue.pop().unwrap().key, turn.key);
        queue.finished(&turn.key, Duration::from_secs(60));
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn a_resource_made_again_is_not_forgotten_with_the_old_one() {
        let (queue, _) = queue();
        queue.apply(&notice("a", 1, "x"), true, 1);
        let turn = queue.pop().unwrap();
        queue.outlive(&turn.key);
        queue.apply(&notice("a", 2, "x"), false, 1);
        queue.finished(&turn.key, Duration::from_secs(60));
        assert!(queue.pop().unwrap().nudged);
    }

    #[test]
    fn what_a_new_listing_does_not_show_is_forgotten() {
        let (queue, _) = queue();
        queue.apply(&notice("a", 1, "x"), true, 1);
        queue.apply(&notice("b", 1, "x"), true, 1);
        queue.apply(&notice("b", 1, "x"), true, 2);
        assert_eq!(queue.unseen(2, |_| true), [Key::new("ns", "a")]);
        queue.remove(&Key::new("ns", "a"));
        assert_eq!(names(&queue), ["b"]);
        assert_eq!(queue.neighbours(&Key::new("ns", "b"), 4).nearest, []);
    }

    #[test]
    fn resources_of_one_app_know_each_other_and_no_others() {
        let (queue, _) = queue();
        for (name, app) in [("a", "x"), ("b", "x"), ("c", "y")] {
            queue.apply(&notice(name, 1, app), true, 1);
        }
        let near = |name| -> Vec<String> {
            queue
                .neighbours(&Key::new("ns", name), 4)
                .nearest
                .into_iter()
                .map(|n| n.key.name().to_owned())
                .collect()
        };
        assert_eq!(near("a"), ["b"]);
        queue.apply(&notice("b", 2, "y"), false, 1);
        assert_eq!(near("c"), ["b"]);
        assert_eq!(near("a"), Vec::<String>::new());
    }

    #[test]
    fn resources_with_one_target_know_each_other_whatever_app_they_are_for() {
        let (queue, _) = queue();
        let on = |name, app, target: &str| Notice {
            target: target.into(),
            ..notice(name, 1, app)
        };
        queue.apply(&notice("a", 1, "x"), true, 1);
        queue.apply(&on("b", "y", "a"), true, 1);
        queue.apply(&on("c", "z", "a"), true, 1);
        queue.apply(&on("d", "z", "other"), true, 1);
        let near = |name| -> Vec<(String, bool)> {
            let near = queue.neighbours(&Key::new("ns", name), 4).nearest;
            near.into_iter()
                .map(|other| (other.key.name().to_owned(), other.is_on_app))
                .collect()
        };
        assert_eq!(near("a"), [("b".into(), false), ("c".into(), false)]);
        assert_eq!(near("b"), [("a".into(), false), ("c".into(), false)]);
        assert_eq!(
            near("c"),
            [("d".into(), true), ("a".into(), false), ("b".into(), false)]
        );
        while queue.pop().is_ok_and(|turn| {
            queue.done(&turn.key, Duration::from_secs(60), false);
            true
        }) {}
        queue.apply(&on("b", "y", "b"), false, 1);
        queue.remove(&Key::new("ns", "c"));
        assert_eq!(near("a"), []);
        assert_eq!(
            names(&queue),
            ["a", "d"],
            "who waited for what b and c had is looked at"
        );
    }

    #[test]
    fn of_many_on_one_app_those_that_may_have_a_code_are_looked_at_first() {
        let (queue, _) = queue();
        for number in 0..6 {
            let created = Timestamp::from_second(number).unwrap();
            let is_bystander = number < 2;
            let notice = notice(&format!("r{number}"), 1, "x");
            queue.apply(
                &Notice {
                    created,
                    is_bystander,
                    ..notice
                },
                true,
                1,
            );
        }
        let look = |number: u8| {
            let near = queue.neighbours(&Key::new("ns", &format!("r{number}")), 3);
            let names: Vec<String> = near.nearest.iter().map(|other| other.key.name().to_owned()).collect();
            (names.join(" "), near.is_crowded)
        };
        assert_eq!(look(5), ("r2 r3 r4".into(), true));
        assert_eq!(look(4), ("r2 r3 r5".into(), false));
        assert_eq!(look(0), ("r2 r3 r4".into(), false));
    }

    #[test]
    fn a_fleet_is_counted_by_its_credentials() {
        let (queue, _) = queue();
        let with = |name, credentials: Option<&str>| Notice {
            credentials: credentials.map(str::to_owned),
            ..notice(name, 1, "x")
        };
        for (name, credentials) in [("a", Some("keys")), ("b", Some("keys")), ("c", None)] {
            queue.apply(&with(name, credentials), true, 1);
        }
        let count = |name| {
            let fleet = queue.fleet(&Key::new("ns", name));
            (fleet.of_caller, fleet.whole)
        };
        assert_eq!((count("a"), count("c")), ((2, 3), (1, 3)));
        assert_eq!(queue.overdue(), Fleet { of_caller: 2, whole: 3 });
        queue.apply(&with("b", None), false, 1);
        assert_eq!((count("a"), count("c")), ((1, 3), (2, 3)));
        queue.remove(&Key::new("ns", "c"));
        assert_eq!(count("b"), (1, 2));
    }

    #[test]
    fn a_resource_waits_from_when_it_was_due_until_it_is_taken() {
        let (queue, clock) = queue();
        let at = |seconds| *clock.0.lock().unwrap() = Duration::from_secs(seconds);
        let waiting = || {
            let census = queue.census(Timestamp::UNIX_EPOCH, 0, Some(Duration::ZERO));
            (census.waiting, census.longest_wait.as_secs())
        };
        for name in ["a", "b"] {
            queue.apply(&notice(name, 1, "x"), true, 1);
            let turn = queue.pop().unwrap();
            queue.done(&turn.key, Duration::from_secs(60), false);
        }
        assert_eq!(waiting(), (0, 0), "neither is due");
        at(70);
        assert_eq!(waiting(), (2, 10));
        queue.nudge(&Key::new("ns", "b"));
        at(75);
        assert_eq!(waiting(), (2, 15), "a change does not begin the wait again");
        let waited = || {
            queue
                .pop()
                .map(|turn| (turn.key.name().to_owned(), turn.waited.as_secs()))
        };
        assert_eq!(waited(), Ok(("b".into(), 15)));
        assert_eq!(waiting(), (1, 15));
        assert_eq!(waited(), Ok(("a".into(), 15)));
        assert_eq!(waiting(), (0, 0), "what is in hand does not wait");
        queue.apply(&notice("c", 1, "x"), false, 1);
        at(78);
        assert_eq!(waiting(), (1, 3));
    }

    #[test]
    fn a_census_counts_all_and_shows_the_oldest_one_by_one() {
        use std::num::NonZeroU32;

        use crate::api::Reason;
        use crate::controller::Why;

        let (queue, _) = queue();
        let conflict = Why::Told(Reason::Conflict);
        let due = |next| Signs {
            next: NonZeroU32::new(next),
            ..Signs::default()
        };
        let stopped = Signs {
            stalled: Some(conflict),
            unready: Some(conflict),
            ..due(900)
        };
        for (age, (name, signs)) in [
            ("c", due(970)),
            ("a", stopped),
            ("d", Signs::default()),
            ("b", due(1001)),
        ]
        .into_iter()
        .enumerate()
        {
            let created = Timestamp::from_second(i64::try_from(age).unwrap()).unwrap();
            queue.apply(
                &Notice {
                    created,
                    signs,
                    ..notice(name, 1, name)
                },
                true,
                1,
            );
        }
        let census = |most| queue.census(Timestamp::from_second(1000).unwrap(), most, None);
        let all = census(9);
        assert_eq!((all.resources, all.overdue, all.most_overdue.as_secs()), (4, 2, 100));
        assert_eq!(all.stalled.into_iter().collect::<Vec<_>>(), [(conflict, 1)]);
        assert_eq!(all.unready.into_iter().collect::<Vec<_>>(), [(conflict, 1)]);
        let names = |most| -> Vec<String> {
            let shown = census(most).shown.into_iter();
            shown.map(|(key, _)| key.name().to_owned()).collect()
        };
        assert_eq!((names(9).join(" "), census(9).hidden()), ("c a d b".into(), 0));
        assert_eq!((names(2).join(" "), census(2).hidden()), ("c a".into(), 2));
        assert_eq!((names(0).join(" "), census(0).hidden()), (String::new(), 4));

        // What is gone is not counted, even while a code of it is still to be saved.
        queue.outlive(&Key::new("ns", "a"));
        queue.remove(&Key::new("ns", "c"));
        let rest = census(9);
        assert_eq!((rest.resources, rest.overdue, rest.stalled.len()), (2, 0, 0));
        assert_eq!(names(9).join(" "), "d b");

        // A later status takes the place of an earlier one.
        queue.apply(
            &Notice {
                signs: due(1),
                ..notice("d", 1, "d")
            },
            false,
            1,
        );
        assert_eq!(census(9).overdue, 1);
    }
}
