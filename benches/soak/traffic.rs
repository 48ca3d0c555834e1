//! Who asks for rotations, and what the Secrets say of them, by a watch of our own.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use appcode_operator::api::{AppCodeRotation, ROTATE_REQUESTED_AT};
use futures::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{Config, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::rig::{Rig, name_of};

/// The annotation in which the operator writes down, with the code itself, the request that made it.
const HANDLED: &str = "appcode.dev/last-handled-request";
/// Longest wait for the answer to one request.
const ANSWER: Duration = Duration::from_secs(5);

/// A resource.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its namespace.
    pub namespace: String,
    /// The id of its app.
    pub app: String,
}

impl Member {
    /// The resource of an app.
    pub fn new(namespace: &str, app: String) -> Self {
        Self {
            namespace: namespace.to_owned(),
            app,
        }
    }
}

/// What a Secret was seen to hold.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The last request whose code is in it; requests count from one.
    pub handled: usize,
    /// Its codes, oldest first, each once for each time it came.
    pub codes: Vec<String>,
}

/// By the name of the Secret.
type Book = Arc<Mutex<HashMap<String, Kept>>>;

/// Requests in turns.
pub struct Traffic {
    client: Client,
    /// All, in the order in which they have their turns.
    pub members: Vec<Member>,
    /// How many rotations of each were asked for.
    asked: Vec<usize>,
    next: usize,
    idle: usize,
    book: Book,
    watch: JoinHandle<()>,
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl Traffic {
    /// Nothing is asked for yet.
    pub fn new(rig: &Rig, members: Vec<Member>) -> Self {
        let book = Book::default();
        let secrets = Api::all(rig.client.clone());
        Self {
            client: rig.client.clone(),
            asked: vec![0; members.len()],
            members,
            next: 0,
            idle: 0,
            watch: tokio::spawn(watch(secrets, Arc::clone(&book))),
            book,
        }
    }

    /// What the Secret of a member was seen to hold.
    pub fn kept(&self, member: &Member) -> Kept {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.get(&name_of(&member.app)).cloned().unwrap_or_default()
    }

    fn handled(&self, member: &Member) -> usize {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.get(&name_of(&member.app)).map_or(0, |kept| kept.handled)
    }

    /// How many rotations of a member were asked for.
    pub fn asked(&self, member: &Member) -> usize {
        let place = self.members.iter().position(|other| other.app == member.app);
        place.and_then(|place| self.asked.get(place)).copied().unwrap_or(0)
    }

    /// Asks for a rotation of the next one whose last one is done. False if there is none.
    pub async fn ask_next(&mut self) -> bool {
        let count = self.members.len();
        for place in (self.next..count).chain(0..self.next) {
            let Some(member) = self.members.get(place).cloned() else {
                continue;
            };
            let handled = self.handled(&member);
            let Some(asked) = self.asked.get_mut(place).filter(|asked| **asked == handled) else {
                continue;
            };
            // It counts before it is sent: what has no answer may have arrived.
            *asked += 1;
            self.next = (place + 1) % count;
            self.remind(&member).await;
            return true;
        }
        self.idle += 1;
        false
    }

    /// Makes sure that the last request has arrived.
    pub async fn remind(&self, member: &Member) {
        let rotations: Api<AppCodeRotation> = Api::namespaced(self.client.clone(), &member.namespace);
        let number = self.asked(member).to_string();
        let change = Patch::Merge(json!({ "metadata": { "annotations": { ROTATE_REQUESTED_AT: number } } }));
        let (name, params) = (name_of(&member.app), PatchParams::default());
        match timeout(ANSWER, rotations.patch(&name, &params, &change)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => eprintln!("{name} could not be asked: {error}"),
            Err(_) => eprintln!("{name} could not be asked in time"),
        }
    }

    /// Those whose last request is not handled yet.
    pub fn open(&self) -> Vec<Member> {
        let all = self.members.iter().zip(&self.asked);
        let open = all.filter(|(member, asked)| self.handled(member) != **asked);
        open.map(|(member, _)| member.clone()).collect()
    }

    /// How many rotations were asked for and handled so far.
    pub fn told(&self) -> Told {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        Told {
            asked: self.asked.iter().sum(),
            handled: book.values().map(|kept| kept.handled).sum(),
            idle: self.idle,
        }
    }
}

/// Counts of rotations.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// Asked for.
    pub asked: usize,
    /// Whose code is in its Secret.
    pub handled: usize,
    /// Turns in which nobody could be asked, since all were busy.
    pub idle: usize,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { asked, handled, idle } = self;
        write!(
            f,
            "{asked} rotations asked for, {handled} handled, {idle} turns without anybody to ask"
        )
    }
}

async fn watch(secrets: Api<Secret>, book: Book) {
    let ours = Config::default().labels("app.kubernetes.io/managed-by=appcode-operator");
    let mut seen = watcher(secrets, ours).default_backoff().applied_objects().boxed();
    while let Some(secret) = seen.next().await {
        let secret = match secret {
            Ok(secret) => secret,
            Err(error) => {
                eprintln!("the watch of Secrets failed and is started again: {error}");
                continue;
            }
        };
        let handled = secret.annotations().get(HANDLED);
        let handled = handled.and_then(|request| request.parse().ok()).unwrap_or(0);
        let code = secret.data.as_ref().and_then(|data| data.get("appCode"));
        let code = code.and_then(|code| String::from_utf8(code.0.clone()).ok());
        let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = book.entry(secret.name_any()).or_default();
        kept.handled = handled;
        if let Some(code) = code
            && kept.codes.last() != Some(&code)
        {
            kept.codes.push(code);
        }
    }
}
