//! What the queue keeps of each resource, and how one change of it leaves all of it sound.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use super::{Key, Turn};
use crate::controller::notice::Notice;
use crate::controller::signs::Signs;

/// Resources that get a turn when one goes that they may have waited for.
const MOST_STIRRED: usize = 8;

pub(super) struct Entry {
    /// Seconds since 1970, as Kubernetes tells it.
    pub(super) created: i64,
    /// Uid, generation and annotations that matter, hashed: another value means that somebody changed something.
    pub(super) touch: u64,
    pub(super) ties: Ties,
    /// The Secret that spec names, where it is not the resource's own name.
    pub(super) target: Option<Box<str>>,
    pub(super) stake: Stake,
    pub(super) signs: Signs,
    /// Since when its turn is due, or from when on.
    pub(super) due: Option<Duration>,
    /// Whether somebody changed it and no pass has seen that through.
    pub(super) nudged: bool,
    /// Whether it stands in the line of those that go first.
    pub(super) is_urgent: bool,
    /// Whether the resource is gone, and only a code that was not saved keeps it here.
    pub(super) is_deleted: bool,
    pub(super) failures: u16,
    /// Round of the watch's listing that saw it last.
    pub(super) round: u32,
}

/// What a resource may have that others must not touch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stake {
    /// A code, or a call that may make one.
    Code,
    Nothing,
}

impl Stake {
    pub(super) fn of(notice: &Notice) -> Self {
        if notice.is_bystander { Self::Nothing } else { Self::Code }
    }
}

/// What a resource may share with others, hashed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Ties {
    pub(super) app: u64,
    pub(super) caller: u64,
}

/// Resources in groups, by what they share. Most are alone in theirs, so that a list for each would cost more than it holds.
#[derive(Default)]
pub(super) struct Groups(BTreeSet<(u64, Key)>);

impl Groups {
    fn join(&mut self, group: u64, key: &Key) {
        self.0.insert((group, key.clone()));
    }

    fn leave(&mut self, group: u64, key: &Key) {
        self.0.remove(&(group, key.clone()));
    }

    pub(super) fn members(&self, group: u64) -> impl Iterator<Item = &Key> {
        let first = (group, Key("".into()));
        let from = self.0.range(first..).take_while(move |(other, _)| *other == group);
        from.map(|(_, key)| key)
    }
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) entries: HashMap<Key, Entry>,
    /// What a worker has in hand. Kept apart from the entries: a resource that is deleted and made again during its turn
    /// must not be handed to a second worker.
    pub(super) running: HashMap<Key, Running>,
    /// Uptime at which a worker last asked for a turn, or was told to.
    pub(super) asked: Option<Duration>,
    pub(super) due: BTreeSet<(Duration, Key)>,
    pub(super) urgent: VecDeque<Key>,
    /// Urgent turns in a row.
    pub(super) streak: u8,
    pub(super) apps: Groups,
    /// Resources by the Secret that they name by a name that is not their own: most have theirs, and need no place here.
    pub(super) secrets: Groups,
    /// How many resources use the same credentials.
    pub(super) callers: HashMap<u64, usize>,
}

/// A turn that a worker has in hand.
pub(super) struct Running {
    pub(super) since: Duration,
    /// Whether the resource was changed meanwhile.
    pub(super) again: bool,
}

impl Inner {
    /// Those who name this Secret.
    pub(super) fn on_secret(&self, namespace: &str, name: &str) -> Vec<Key> {
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
    pub(super) fn take(&mut self, key: &Key, now: Duration) -> Option<Turn> {
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

    pub(super) fn wake(&mut self, key: &Key, at: Duration, nudged: bool) {
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

    /// Removes a resource. Others may have waited for what it claimed.
    pub(super) fn forget(&mut self, key: &Key, now: Duration) {
        let Some(entry) = self.entries.remove(key) else { return };
        if let Some(due) = entry.due {
            self.due.remove(&(due, key.clone()));
        }
        self.urgent.retain(|other| other != key);
        self.untie(entry.ties, entry.target.as_deref(), key);
        self.stir(entry.ties, entry.target.as_deref(), key, now);
    }

    /// Gives a turn to the oldest of those that shared something with `key` before it went.
    pub(super) fn stir(&mut self, former: Ties, target: Option<&str>, key: &Key, now: Duration) {
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
    pub(super) fn tie(&mut self, ties: Ties, target: Option<&str>, key: &Key) {
        self.apps.join(ties.app, key);
        if let Some(target) = target {
            self.secrets.join(secret(key.namespace(), target), key);
        }
        *self.callers.entry(ties.caller).or_default() += 1;
    }

    pub(super) fn untie(&mut self, ties: Ties, target: Option<&str>, key: &Key) {
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
pub(super) fn other_target(notice: &Notice) -> Option<&str> {
    (notice.target != notice.name).then_some(&notice.target)
}

/// Stands for the Secret of that name.
pub(in crate::controller) fn secret(namespace: &str, name: &str) -> u64 {
    hash(&(namespace, name))
}

pub(in crate::controller) fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
