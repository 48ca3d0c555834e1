//! An API server in memory: the few resources and verbs that the operator may use, with the answers of a real one.
//!
//! It is a value behind a mutex. What it refuses because no operator should ask for it is kept as a violation.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use appcode_operator::api::MANAGER;
use appcode_operator::secret::MANAGED_BY;
use http::Method;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use super::clock::Time;
use super::gate::ProcessId;
use super::script::{Call, Verb};

pub const SECRETS: &str = "secrets";
pub const ROTATIONS: &str = "appcoderotations";
pub const EVENTS: &str = "events";
pub const DEPLOYMENTS: &str = "deployments";
pub const STATEFUL_SETS: &str = "statefulsets";
pub const DAEMON_SETS: &str = "daemonsets";

/// An object as it was at one time. It is shared by all who saw it so.
pub type Object = Arc<Value>;

/// A request, taken apart.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Who asks.
    pub by: ProcessId,
    /// When it was sent, in true time.
    pub sent_at: Timestamp,
    pub verb: Verb,
    pub resource: &'static str,
    pub namespace: String,
    pub name: String,
    pub query: BTreeMap<String, String>,
    /// Whether only metadata is asked for.
    pub is_of_metadata: bool,
    pub body: Object,
}

impl Asked {
    pub fn parse(method: &Method, path: &str, query: &str, body: &[u8]) -> Self {
        let query: BTreeMap<String, String> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), cloud_simulator::wire::decode(value)))
            .collect();
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (resource, rest): (&'static str, &[&str]) = match segments.as_slice() {
            ["api", "v1", "namespaces", _, "secrets", rest @ ..] | ["api", "v1", "secrets", rest @ ..] => {
                (SECRETS, rest)
            }
            [
                "apis",
                "appcode.dev",
                "v1alpha1",
                "namespaces",
                _,
                "appcoderotations",
                rest @ ..,
            ]
            | ["apis", "appcode.dev", "v1alpha1", "appcoderotations", rest @ ..] => (ROTATIONS, rest),
            ["apis", "events.k8s.io", "v1", "namespaces", _, "events", rest @ ..] => (EVENTS, rest),
            ["apis", "apps", "v1", "namespaces", _, "deployments", rest @ ..] => (DEPLOYMENTS, rest),
            ["apis", "apps", "v1", "namespaces", _, "statefulsets", rest @ ..] => (STATEFUL_SETS, rest),
            ["apis", "apps", "v1", "namespaces", _, "daemonsets", rest @ ..] => (DAEMON_SETS, rest),
            _ => ("unknown", &[]),
        };
        let namespace = segments.iter().position(|segment| *segment == "namespaces");
        let namespace = namespace.and_then(|at| segments.get(at + 1)).copied().unwrap_or("");
        let is_watch = query.get("watch").is_some_and(|value| value == "true" || value == "1");
        let verb = match (method.as_str(), rest) {
            ("GET", []) if is_watch => Verb::Watch,
            ("GET", []) => Verb::List,
            ("GET", [_]) => Verb::Get,
            ("POST", []) => Verb::Create,
            ("PATCH", [_]) => Verb::Patch,
            ("PUT", [_, "status"]) => Verb::PutStatus,
            _ => Verb::Other,
        };
        Self {
            by: 0,
            sent_at: Timestamp::MIN,
            verb,
            resource,
            namespace: namespace.to_owned(),
            name: rest.first().copied().unwrap_or_default().to_owned(),
            query,
            is_of_metadata: false,
            body: Arc::new(serde_json::from_slice(body).unwrap_or_default()),
        }
    }

    /// Whether it is a listing or watch of our Secrets as the operator may ask for it: by the label, and without values.
    fn is_of_our_secrets(&self) -> bool {
        let ours = format!("{MANAGED_BY}={MANAGER}");
        self.is_of_metadata && self.query.get("labelSelector") == Some(&ours)
    }

    /// The body, to be changed on its way.
    pub fn body_mut(&mut self) -> &mut Value {
        Object::make_mut(&mut self.body)
    }

    pub fn call(&self) -> Call {
        Call::Api {
            verb: self.verb,
            resource: self.resource,
            name: self.name.clone(),
        }
    }
}

/// Status and body.
pub type Answer = (u16, Object);

type Id = (&'static str, String, String);

/// What a watch would tell.
#[derive(Clone, Debug)]
pub struct Change {
    pub version: u64,
    pub resource: &'static str,
    pub kind: &'static str,
    pub object: Object,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<Id, Object>,
    /// Secrets as they were before their data was last changed: what a backup may hold.
    backups: BTreeMap<Id, Object>,
    version: u64,
    uids: u64,
    changes: Vec<Change>,
    asked: Vec<Asked>,
    writes: usize,
    violations: Vec<String>,
    /// Rights that were taken from the operator.
    revoked: BTreeSet<(&'static str, Verb)>,
    /// Objects as they were before they last changed; none where there was none.
    former: BTreeMap<Id, Option<Object>>,
    /// What reads show, and until when.
    lag: Option<(Timestamp, BTreeMap<Id, Object>)>,
}

/// The server.
#[derive(Default)]
pub struct ApiServer {
    state: Mutex<State>,
    changed: Notify,
    time: Time,
}

impl ApiServer {
    /// One that stamps what it does with this time.
    pub fn at(time: Time) -> Self {
        Self {
            time,
            ..Self::default()
        }
    }

    /// Does what is asked.
    pub fn handle(&self, asked: &Asked, now: Timestamp) -> Answer {
        let mut state = self.state.lock().unwrap();
        state.asked.push(asked.clone());
        state.writes += usize::from(asked.verb.is_write() && asked.resource != EVENTS);
        let answer = state.handle(asked, now);
        drop(state);
        self.changed.notify_waiters();
        answer
    }

    /// Answers a reading from a copy that has not seen the last change of the object yet.
    pub fn handle_stale(&self, asked: &Asked) -> Answer {
        let mut state = self.state.lock().unwrap();
        state.asked.push(asked.clone());
        let id = (asked.resource, asked.namespace.clone(), asked.name.clone());
        let former = state.former.get(&id).cloned();
        match former.unwrap_or_else(|| state.objects.get(&id).cloned()) {
            Some(object) => (200, object),
            None => not_found(asked),
        }
    }

    /// What would be answered now, and nothing done.
    pub fn would_answer(&self, asked: &Asked, now: Timestamp) -> Answer {
        let state = self.state.lock().unwrap();
        let mut copy = State {
            objects: state.objects.clone(),
            version: state.version,
            revoked: state.revoked.clone(),
            ..State::default()
        };
        copy.handle(asked, now)
    }

    /// What a watch on `resource` from `version` on sees next, as soon as there is something.
    pub async fn watch(&self, resource: &'static str, namespace: &str, version: u64) -> Vec<Change> {
        loop {
            let changed = self.changed.notified();
            let seen = self.changes_of(resource, version);
            let ours: Vec<Change> = seen
                .into_iter()
                .filter(|change| namespace.is_empty() || change.object["metadata"]["namespace"] == namespace)
                .collect();
            if !ours.is_empty() {
                return ours;
            }
            changed.await;
        }
    }

    /// Changes of resources after `version`.
    pub fn changes_since(&self, version: u64) -> Vec<Change> {
        self.changes_of(ROTATIONS, version)
    }

    /// Changes of objects of one kind after `version`; of Secrets, of those with our label, and no more than a watch tells.
    pub fn changes_of(&self, resource: &'static str, version: u64) -> Vec<Change> {
        let state = self.state.lock().unwrap();
        let seen = state.changes.partition_point(|change| change.version <= version);
        let seen = state.changes[seen..].iter();
        seen.filter(|change| change.resource == resource).cloned().collect()
    }

    pub fn version(&self) -> u64 {
        self.state.lock().unwrap().version
    }

    pub fn object(&self, resource: &'static str, namespace: &str, name: &str) -> Option<Object> {
        let state = self.state.lock().unwrap();
        state
            .objects
            .get(&(resource, namespace.to_owned(), name.to_owned()))
            .cloned()
    }

    pub fn objects(&self, resource: &'static str) -> Vec<Object> {
        self.collect(resource, Object::clone)
    }

    /// What `map` makes of each.
    pub fn map_objects<T>(&self, resource: &'static str, mut map: impl FnMut(&Value) -> T) -> Vec<T> {
        self.collect(resource, |object| map(object))
    }

    fn collect<T>(&self, resource: &'static str, map: impl FnMut(&Object) -> T) -> Vec<T> {
        let state = self.state.lock().unwrap();
        // Events are many after a long time, and stand elsewhere.
        let from = state.objects.range((resource, String::new(), String::new())..);
        let of_kind = from.take_while(|((kind, ..), _)| *kind == resource);
        of_kind.map(|(_, object)| object).map(map).collect()
    }

    /// Writes so far, events apart.
    pub fn writes(&self) -> usize {
        self.state.lock().unwrap().writes
    }

    /// How many requests of a kind there were.
    pub fn count_asked(&self, wanted: impl Fn(&Asked) -> bool) -> usize {
        let state = self.state.lock().unwrap();
        state.asked.iter().filter(|asked| wanted(asked)).count()
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.lock().unwrap().asked.clone()
    }

    /// Forgets what was asked and what changed so far, so that a long run does not grow by its own notes.
    pub fn forget(&self) {
        let mut state = self.state.lock().unwrap();
        state.asked = Vec::new();
        state.changes = Vec::new();
    }

    pub fn violations(&self) -> Vec<String> {
        self.state.lock().unwrap().violations.clone()
    }
}

/// What people do.
impl ApiServer {
    /// Creates an object; one of that name must not exist.
    pub fn apply_new(&self, resource: &'static str, object: Value, now: Timestamp) -> Object {
        let mut state = self.state.lock().unwrap();
        let meta = |key: &str| object["metadata"][key].as_str().unwrap().to_owned();
        let id = (resource, meta("namespace"), meta("name"));
        assert!(!state.objects.contains_key(&id), "it exists");
        let created = state.create(id, object, now);
        drop(state);
        self.changed.notify_waiters();
        created
    }

    /// Changes an object in place; a changed spec is a new generation. Returns whether there is such an object.
    pub fn edit(&self, resource: &'static str, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) -> bool {
        let mut state = self.state.lock().unwrap();
        let id = (resource, namespace.to_owned(), name.to_owned());
        let Some(old) = state.objects.get(&id).cloned() else {
            return false;
        };
        let mut object = Value::clone(&old);
        change(&mut object);
        renew_generation(&old, &mut object);
        state.store(id, object);
        drop(state);
        self.changed.notify_waiters();
        true
    }

    /// Takes a right from the operator, or gives it back.
    pub fn revoke(&self, resource: &'static str, verb: Verb, is_revoked: bool) {
        let mut state = self.state.lock().unwrap();
        if is_revoked {
            state.revoked.insert((resource, verb));
        } else {
            state.revoked.remove(&(resource, verb));
        }
    }

    /// Shows the objects to readers as they are now for so long.
    pub fn lag(&self, time: Duration) {
        let mut state = self.state.lock().unwrap();
        let now = state.objects.clone();
        state.lag = Some((self.time.truth() + time, now));
    }

    /// Whether the operator lacks a right.
    pub fn is_revoked(&self, resource: &'static str, verb: Verb) -> bool {
        self.state.lock().unwrap().revoked.contains(&(resource, verb))
    }

    /// A Secret as it was before its data was last changed.
    pub fn backup(&self, namespace: &str, name: &str) -> Option<Object> {
        let state = self.state.lock().unwrap();
        let id = (SECRETS, namespace.to_owned(), name.to_owned());
        state.backups.get(&id).cloned()
    }

    /// Deletes an object; one with finalizers stays until they are gone. Returns whether there was one.
    pub fn delete(&self, resource: &'static str, namespace: &str, name: &str) -> bool {
        let mut state = self.state.lock().unwrap();
        let id = (resource, namespace.to_owned(), name.to_owned());
        let Some(object) = state.objects.get(&id).cloned() else {
            return false;
        };
        if has_finalizers(&object) {
            let now = Timestamp::from_second(self.time.truth().as_second()).unwrap();
            if object["metadata"]["deletionTimestamp"].is_null() {
                let mut object = Value::clone(&object);
                object["metadata"]["deletionTimestamp"] = json!(now.to_string());
                state.store(id, object);
            }
        } else {
            state.remove(&id);
        }
        drop(state);
        self.changed.notify_waiters();
        true
    }
}

impl State {
    fn handle(&mut self, asked: &Asked, now: Timestamp) -> Answer {
        let id = (asked.resource, asked.namespace.clone(), asked.name.clone());
        if self.revoked.contains(&(asked.resource, asked.verb)) {
            return forbidden(asked);
        }
        match (asked.resource, asked.verb) {
            (SECRETS | ROTATIONS | DEPLOYMENTS | STATEFUL_SETS | DAEMON_SETS, Verb::Get) => {
                let lag = self.lag.as_ref().filter(|(until, _)| now < *until);
                match lag.map_or(&self.objects, |(_, seen)| seen).get(&id) {
                    Some(object) => (200, object.clone()),
                    None => not_found(asked),
                }
            }
            (ROTATIONS, Verb::List) => self.list(asked, Value::clone),
            (SECRETS, Verb::Watch) if asked.is_of_our_secrets() => (200, Object::default()), // what it tells is told elsewhere
            (SECRETS, Verb::List) if asked.is_of_our_secrets() => self.list(asked, metadata_of),
            (SECRETS, Verb::Create) => {
                let name = asked.body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let id = (SECRETS, asked.namespace.clone(), name);
                if self.objects.contains_key(&id) {
                    let message = format!("{} \"{}\" already exists", asked.resource, id.2);
                    return refuse(409, "AlreadyExists", &message);
                }
                if let Some(refused) = refuse_type(&asked.body) {
                    return refused;
                }
                (201, self.create(id, Value::clone(&asked.body), now))
            }
            (EVENTS, Verb::Create) => {
                let name = asked.body["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                let note = asked.body["note"].as_str().unwrap_or_default();
                if note.len() > 1024 {
                    return refuse(422, "Invalid", "note: can have at most 1024 bytes");
                }
                let id = (EVENTS, asked.namespace.clone(), name);
                if self.objects.contains_key(&id) {
                    return refuse(409, "AlreadyExists", &format!("events {:?} already exists", id.2));
                }
                (201, self.create(id, Value::clone(&asked.body), now))
            }
            (SECRETS | DEPLOYMENTS | STATEFUL_SETS | DAEMON_SETS, Verb::Patch) => self.patch(id, asked),
            (ROTATIONS, Verb::Patch) => {
                let fields = |value: &Value| -> Vec<String> {
                    value
                        .as_object()
                        .into_iter()
                        .flat_map(|it| it.keys().cloned())
                        .collect()
                };
                let what = (fields(&asked.body), fields(&asked.body["metadata"]));
                if what
                    != (
                        vec!["metadata".into()],
                        vec!["finalizers".into(), "resourceVersion".into()],
                    )
                {
                    self.violations
                        .push(format!("a patch of a resource beyond its finalizers: {what:?}"));
                }
                self.patch(id, asked)
            }
            (ROTATIONS, Verb::PutStatus) => self.put_status(id, asked),
            _ => {
                self.violations.push(format!("{:?} of {}", asked.verb, asked.resource));
                forbidden(asked)
            }
        }
    }

    fn list(&self, asked: &Asked, shown: impl Fn(&Value) -> Value) -> Answer {
        let limit = asked
            .query
            .get("limit")
            .and_then(|limit| limit.parse().ok())
            .unwrap_or(500);
        let after = asked.query.get("continue").filter(|token| !token.is_empty());
        let mut found: Vec<(&Id, &Object)> = self
            .objects
            .iter()
            .filter(|((kind, namespace, _), _)| {
                *kind == asked.resource && (asked.namespace.is_empty() || *namespace == asked.namespace)
            })
            .filter(|(_, object)| asked.resource != SECRETS || is_labelled(object))
            .filter(|((_, namespace, name), _)| after.is_none_or(|after| format!("{namespace}/{name}") > *after))
            .collect();
        found.sort_by_key(|((_, namespace, name), _)| format!("{namespace}/{name}"));
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found
            .last()
            .filter(|_| more)
            .map(|((_, namespace, name), _)| format!("{namespace}/{name}"));
        let items: Vec<Value> = found.iter().map(|(_, object)| shown(object)).collect();
        let body = json!({
            "apiVersion": "appcode.dev/v1alpha1", "kind": "AppCodeRotationList",
            "metadata": { "resourceVersion": self.version.to_string(), "continue": next.unwrap_or_default() },
            "items": items,
        });
        (200, body.into())
    }

    fn patch(&mut self, id: Id, asked: &Asked) -> Answer {
        let Some(old) = self.objects.get(&id).cloned() else {
            return not_found(asked);
        };
        let wanted = asked.body["metadata"]["resourceVersion"].as_str();
        match wanted {
            None => self
                .violations
                .push(format!("a write to {} without a resourceVersion", id.2)),
            Some(wanted) if old["metadata"]["resourceVersion"] != wanted => return conflict(asked),
            Some(_) => {}
        }
        if old["immutable"] == true && asked.body.get("data").is_some() {
            return refuse(
                422,
                "Invalid",
                "data: Forbidden: field is immutable when `immutable` is set",
            );
        }
        let mut new = Value::clone(&old);
        merge(&mut new, &asked.body);
        if !has_finalizers(&new)
            && let Some(meta) = new["metadata"].as_object_mut()
        {
            meta.remove("finalizers");
        }
        new["metadata"]["resourceVersion"] = old["metadata"]["resourceVersion"].clone();
        if let Some(refused) = refuse_type(&new) {
            return refused;
        }
        if new == *old {
            return (200, old); // a patch that changes nothing is not written
        }
        renew_generation(&old, &mut new);
        if !new["metadata"]["deletionTimestamp"].is_null() && !has_finalizers(&new) {
            self.remove(&id);
            return (200, new.into());
        }
        (200, self.store(id, new))
    }

    fn remove(&mut self, id: &Id) {
        if let Some(object) = self.objects.remove(id) {
            self.former.insert(id.clone(), Some(object.clone()));
            self.version += 1;
            self.announce(id.0, "DELETED", object);
        }
    }

    fn put_status(&mut self, id: Id, asked: &Asked) -> Answer {
        let Some(old) = self.objects.get(&id).cloned() else {
            return not_found(asked);
        };
        match asked.body["metadata"]["resourceVersion"].as_str() {
            None => self
                .violations
                .push(format!("a status of {} without a resourceVersion", id.2)),
            Some(version) if old["metadata"]["resourceVersion"] != version => return conflict(asked),
            Some(_) => {}
        }
        let mut new = Value::clone(&old);
        new["status"] = asked.body["status"].clone();
        if new == *old {
            return (200, old);
        }
        (200, self.store(id, new))
    }

    fn create(&mut self, id: Id, mut object: Value, now: Timestamp) -> Object {
        self.uids += 1;
        let seconds = Timestamp::from_second(now.as_second()).unwrap();
        object["metadata"]["uid"] = json!(format!("00000000-0000-4000-8000-{:012}", self.uids));
        object["metadata"]["creationTimestamp"] = json!(seconds.to_string());
        if ![SECRETS, EVENTS].contains(&id.0) {
            object["metadata"]["generation"] = json!(1);
        }
        self.store(id, object)
    }

    fn store(&mut self, id: Id, mut object: Value) -> Object {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let object = Object::new(object);
        let resource = id.0;
        let old = self
            .objects
            .get(&id)
            .filter(|old| resource == SECRETS && old["data"] != object["data"]);
        if let Some(old) = old.cloned() {
            self.backups.insert(id.clone(), old);
        }
        let former = self.objects.insert(id.clone(), object.clone());
        let kind = if former.is_none() { "ADDED" } else { "MODIFIED" };
        if resource != EVENTS {
            self.former.insert(id, former);
        }
        self.announce(resource, kind, object.clone());
        object
    }

    fn announce(&mut self, resource: &'static str, kind: &'static str, mut object: Object) {
        let version = self.version;
        let kind = match resource {
            ROTATIONS => kind,
            // One that loses the label is gone for who watches that.
            SECRETS if is_labelled(&object) => kind,
            SECRETS => "DELETED",
            _ => return,
        };
        if kind == "DELETED" {
            Object::make_mut(&mut object)["metadata"]["resourceVersion"] = json!(version.to_string());
        }
        if resource == SECRETS {
            object = metadata_of(&object).into();
        }
        self.changes.push(Change {
            version,
            resource,
            kind,
            object,
        });
    }
}

/// An object as it is shown to who asks for metadata only.
fn metadata_of(object: &Value) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": object["metadata"]})
}

/// Whether it bears the operator's label.
fn is_labelled(object: &Value) -> bool {
    object["metadata"]["labels"][MANAGED_BY] == MANAGER
}

fn has_finalizers(object: &Value) -> bool {
    let finalizers = object["metadata"]["finalizers"].as_array();
    finalizers.is_some_and(|finalizers| !finalizers.is_empty())
}

/// A changed spec is a new generation.
fn renew_generation(old: &Value, new: &mut Value) {
    if new["spec"] != old["spec"] {
        new["metadata"]["generation"] = json!(old["metadata"]["generation"].as_i64().unwrap() + 1);
    }
}

fn forbidden(asked: &Asked) -> Answer {
    let message = format!(
        "{} is forbidden: User \"system:serviceaccount:appcode-system:appcode-operator\" cannot do that",
        asked.resource
    );
    refuse(403, "Forbidden", &message)
}

/// What the server asks of the types of Secrets.
fn refuse_type(secret: &Value) -> Option<Answer> {
    let has = |key: &str| secret["data"].get(key).is_some();
    let lacks = secret["type"] == "kubernetes.io/basic-auth" && !has("username") && !has("password");
    lacks.then(|| refuse(422, "Invalid", "data[username]: Required value"))
}

/// A failure in the words of a real server.
pub fn refuse(code: u16, reason: &str, message: &str) -> Answer {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    (code, body.into())
}

fn not_found(asked: &Asked) -> Answer {
    let message = format!("{} \"{}\" not found", asked.resource, asked.name);
    refuse(404, "NotFound", &message)
}

fn conflict(asked: &Asked) -> Answer {
    let message = format!(
        "Operation cannot be fulfilled on {} \"{}\": the object has been modified; please apply your changes to the \
         latest version and try again",
        asked.resource, asked.name
    );
    refuse(409, "Conflict", &message)
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            fields.remove(key);
        } else {
            merge(fields.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
