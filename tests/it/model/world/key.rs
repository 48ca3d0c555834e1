//! Which states are the same: all that a decision, an effect or the judge can see, and nothing else.
//!
//! Ids of rotations, and versions of objects, count by what they are equal to. Replicas may change places.

use std::hash::{DefaultHasher, Hash, Hasher};

use appcode_operator::api::{AppCodeRotationStatus, ConditionType};
use appcode_operator::ids::RotationId;
use appcode_operator::intent::Intent;
use appcode_operator::plan::{Attempt, Cloud, Memory, Observed, Question};
use appcode_operator::secret::Record;

use super::{Begun, Replica, Stored, World};

impl World {
    /// Stands for the state.
    pub fn key(&self) -> u64 {
        let around = self.key_around();
        let one = around.clone().with(self, self.replicas.iter());
        if self.replicas.len() == 1 {
            return one;
        }
        one.min(around.with(self, self.replicas.iter().rev()))
    }

    /// All but the replicas.
    fn key_around(&self) -> Key {
        let mut key = Key::default();
        key.put((&self.codes, self.updated_at, self.trigger, self.uid, self.is_deleted));
        key.put((
            self.ticks,
            self.faults,
            self.acts,
            self.mutations,
            self.halves,
            self.is_secret_lost,
        ));
        let held_once = self.codes.iter().map(|code| self.written.contains(code));
        key.put(held_once.collect::<Vec<_>>());
        key.put((self.written.last(), self.is_in_order(), &self.strangers, self.is_struck));
        key.put((self.deleting, self.has_finalizer, self.persisted, self.wrongly_deleted));
        key.option(self.in_flight.as_ref(), Key::intent);
        key.option(self.secret.as_ref(), Key::stored);
        key.status(&self.status);
        key
    }
}

#[derive(Clone, Default)]
struct Key {
    hasher: DefaultHasher,
    ids: Vec<RotationId>,
}

impl Key {
    /// The state with these replicas in this order.
    fn with<'a>(mut self, world: &World, replicas: impl Iterator<Item = &'a Replica>) -> u64 {
        for replica in replicas {
            self.memory(&replica.memory);
            self.option(replica.pass.as_deref(), |key, pass| key.pass(world, pass));
        }
        self.hasher.finish()
    }

    fn put(&mut self, value: impl Hash) {
        value.hash(&mut self.hasher);
    }

    fn option<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        self.put(value.is_some());
        if let Some(value) = value {
            put(self, value);
        }
    }

    fn id(&mut self, id: &RotationId) {
        let place = self.ids.iter().position(|known| known == id).unwrap_or_else(|| {
            self.ids.push(id.clone());
            self.ids.len() - 1
        });
        self.put(place);
    }

    fn intent(&mut self, intent: &Intent) {
        self.id(&intent.rotation_id);
        self.put((
            intent.number,
            &intent.uid,
            intent.trigger,
            &intent.consumed,
            intent.step,
            intent.base,
        ));
        self.put((
            intent.call,
            &intent.known,
            intent.attempt,
            intent.updated_at,
            intent.marked_at,
        ));
        let distribution = intent.distribution.as_ref();
        self.put((intent.strategy, distribution.map(|it| it.distributed_at)));
    }

    fn record(&mut self, record: &Record) {
        self.put((
            record.number,
            record.fingerprint,
            record.rotated_at,
            record.seed,
            &record.handled_trigger,
        ));
        self.put(record.previous);
        self.option(record.intent.as_ref(), Self::intent);
    }

    fn stored(&mut self, stored: &Stored) {
        self.put(stored.code);
        self.record(&stored.record);
    }

    fn status(&mut self, status: &AppCodeRotationStatus) {
        self.put((
            status.rotation_number,
            status.observed_generation,
            &status.last_handled_trigger,
        ));
        let current = status.current.as_ref();
        self.put(current.map(|code| (&code.fingerprint, code.rotated_at.0)));
        self.put(status.last_verified_time.as_ref().map(|time| time.0));
        let failures = status.failures.as_ref();
        self.put(failures.map(|failures| failures.next_attempt_time.as_ref().map(|time| time.0)));
        for kind in [ConditionType::Ready, ConditionType::Stalled] {
            self.put(
                status
                    .condition(kind)
                    .map(|condition| (&condition.status, &condition.reason)),
            );
        }
        let shown = status.rotation.as_ref().map(|rotation| rotation.rotation_id.as_str());
        self.put(shown.map(|shown| self.ids.iter().position(|id| id.as_str() == shown)));
        let rotation = status.rotation.as_ref();
        self.put(rotation.map(|rotation| (rotation.step, &rotation.replaces)));
        let mirror = rotation.and_then(|rotation| Intent::parse(rotation.intent.as_deref()?).ok());
        self.option(mirror.as_ref(), Self::intent);
    }

    fn attempt(&mut self, attempt: &Attempt) {
        self.id(&attempt.rotation_id);
        self.put(attempt.number);
    }

    fn memory(&mut self, memory: &Memory) {
        self.option(memory.marked.as_ref(), Self::attempt);
        self.option(memory.not_applied.as_ref(), Self::attempt);
        self.option(memory.held.as_ref(), |key, held| {
            key.put(held.code);
            key.intent(&held.intent);
        });
        for settling in &memory.settling {
            self.put((settling.since, &settling.codes));
            match &settling.question {
                Question::Outcome { rotation_id, attempt } | Question::Outdated { rotation_id, attempt } => {
                    self.put(std::mem::discriminant(&settling.question));
                    self.id(rotation_id);
                    self.put(attempt);
                }
                Question::NotListed { code } => self.put(code),
            }
        }
    }

    fn pass(&mut self, world: &World, pass: &Begun) {
        self.put(pass.secret.as_ref().map(|secret| secret.version) == world.secret_version());
        self.put(pass.status_version == world.status_version);
        match &pass.observed {
            None => self.option(pass.secret.as_ref(), Self::stored),
            Some(observed) => self.observed(world, observed),
        }
    }

    fn observed(&mut self, world: &World, observed: &Observed) {
        let secret = observed.secret.ours();
        let version = secret.map(|secret| secret.resource_version.clone());
        self.put(version == world.secret_version().map(|version| version.to_string()));
        self.option(secret, |key, secret| {
            key.put(secret.code);
            key.record(&secret.record);
        });
        let resource = &observed.resource;
        self.put((&resource.uid, resource.generation, resource.deleting, observed.uptime));
        self.put((resource.held_since, resource.has_finalizer));
        self.option(observed.mirror.as_ref(), Self::intent);
        self.status(&observed.status);
        self.memory(&observed.memory);
        match &observed.cloud {
            Cloud::Read(app) => self.put((&app.codes, app.updated_at)),
            other => self.put(std::mem::discriminant(other)),
        }
    }
}
