//! A cloud that serves on a loopback port, and the handle by which a test arranges and judges.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::DropGuard;

use crate::clock::Clock;
use crate::faults::{Fault, FaultId};
use crate::http::{Shared, run};
use crate::ledger::Ledger;
use crate::model::{Account, App, Behaviour, Cloud, Key, NewApp, Operation, Service, TemporaryKey, User};

/// How to start.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; loopback only, since the cloud gives its secrets to whoever asks.
    pub listen: SocketAddr,
    /// Decides every id, key and code.
    pub seed: u64,
    /// The cloud's time.
    pub clock: Clock,
    /// Switches for what the documentation leaves open.
    pub behaviour: Behaviour,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            seed: 0,
            clock: Clock::default(),
            behaviour: Behaviour::default(),
        }
    }
}

/// A running cloud. Clones are the same cloud; it ends with the last of them, or when stopped.
#[derive(Debug, Clone)]
pub struct Simulator {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: Arc<Server>,
}

#[derive(Debug)]
struct Server {
    task: Mutex<Option<JoinHandle<std::io::Result<()>>>>,
    _closes_when_dropped: DropGuard,
}

impl Simulator {
    /// Starts an empty cloud. ModelArts, IAM and the data plane share one origin.
    ///
    /// # Errors
    /// When the address is taken or is not loopback.
    pub async fn start(options: Options) -> std::io::Result<Self> {
        if !options.listen.ip().is_loopback() {
            let text = "the simulator hands out secrets and listens on loopback only";
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, text));
        }
        let listener = TcpListener::bind(options.listen).await?;
        let address = listener.local_addr()?;
        let cloud = Cloud::new(options.seed, options.behaviour);
        let shared = Arc::new(Shared::new(cloud, options.clock));
        let guard = shared.closing.clone().drop_guard();
        let task = tokio::spawn(run(listener, Arc::clone(&shared)));
        let server = Arc::new(Server {
            task: Mutex::new(Some(task)),
            _closes_when_dropped: guard,
        });
        Ok(Self {
            shared,
            address,
            server,
        })
    }

    /// `http://127.0.0.1:port`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections and waits for the port to be free.
    pub async fn stop(self) {
        self.shared.closing.cancel();
        let task = self.server.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }

    /// Works on the cloud itself, for what has no method here.
    pub fn with<T>(&self, work: impl FnOnce(&mut Cloud) -> T) -> T {
        self.shared.with(work)
    }

    /// The cloud's time.
    pub fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Sets how far the cloud's clock is from its source.
    pub fn set_clock_skew(&self, skew: SignedDuration) {
        self.shared.clock.set_skew(skew);
        self.with(|_| ());
    }

    /// Lets time pass in the cloud without waiting for it.
    pub fn advance(&self, by: SignedDuration) {
        self.shared.clock.advance(by);
        self.with(|_| ());
    }

    /// Changes the switches.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        self.with(|cloud| change(&mut cloud.behaviour));
    }

    /// Sets how long the data plane takes an old code, and from when on it takes a new one.
    pub fn set_propagation(&self, old_valid_for: SignedDuration, new_valid_after: SignedDuration) {
        let millis = |duration: SignedDuration| u64::try_from(duration.as_millis()).unwrap_or_default();
        self.behave(|behaviour| {
            behaviour.old_code_valid_millis = millis(old_valid_for);
            behaviour.new_code_delay_millis = millis(new_valid_after);
        });
    }
}

/// Who there is.
impl Simulator {
    /// Makes an account.
    pub fn add_account(&self, name: &str) -> Account {
        self.with(|cloud| cloud.add_account(name))
    }

    /// Makes a project of an account; its name is its region. Returns its id.
    pub fn add_project(&self, account_id: &str, region: &str) -> String {
        self.with(|cloud| cloud.add_project(account_id, region))
    }

    /// Makes a workspace besides `"0"`. Returns its id.
    pub fn add_workspace(&self, account_id: &str) -> String {
        self.with(|cloud| cloud.add_workspace(account_id))
    }

    /// Makes a user with a key.
    pub fn add_user(&self, account_id: &str, name: &str, password: &str) -> User {
        self.with(|cloud| cloud.add_user(account_id, name, password))
    }

    /// Makes an account, a project in `cn-north-4` and a user at once.
    pub fn add_tenant(&self, name: &str) -> (User, String) {
        let account = self.add_account(name);
        let project = self.add_project(&account.account_id, "cn-north-4");
        (
            self.add_user(&account.account_id, &format!("{name}-user"), "Passw0rd!of-the-user"),
            project,
        )
    }

    /// Makes another permanent key of a user.
    pub fn add_key(&self, user_id: &str) -> Key {
        self.with(|cloud| cloud.add_key(user_id))
    }

    /// Ends a key. False if there is none.
    pub fn revoke_key(&self, ak: &str) -> bool {
        self.with(|cloud| cloud.revoke_key(ak))
    }

    /// Ends a key of a user and makes another.
    pub fn rotate_key(&self, user_id: &str, ak: &str) -> Key {
        self.with(|cloud| {
            cloud.revoke_key(ak);
            cloud.add_key(user_id)
        })
    }

    /// Makes a temporary key of a user.
    pub fn add_temporary_key(&self, user_id: &str, life: SignedDuration) -> TemporaryKey {
        let now = self.now();
        self.with(|cloud| cloud.add_temporary_key(now, user_id, life))
    }

    /// Makes a token of a user for a project.
    pub fn issue_token(&self, user_id: &str, project_id: &str) -> String {
        let now = self.now();
        self.with(|cloud| cloud.issue_token(now, user_id, Some(project_id)))
    }

    /// Makes all tokens of a user expire now.
    pub fn expire_tokens(&self, user_id: &str) -> usize {
        let now = self.now();
        self.with(|cloud| cloud.expire_tokens(now, user_id))
    }

    /// Ends all tokens of a user ahead of time.
    pub fn revoke_tokens(&self, user_id: &str) -> usize {
        self.with(|cloud| cloud.revoke_tokens(user_id))
    }

    /// Changes a user's password, which ends its tokens.
    pub fn set_password(&self, user_id: &str, password: &str) -> bool {
        self.with(|cloud| cloud.set_password(user_id, password))
    }

    /// Whether a key is locked by failures.
    pub fn is_locked(&self, ak: &str) -> bool {
        let now = self.now();
        self.shared.look(|cloud| cloud.is_locked(now, ak))
    }

    /// Locks a key as too many failures would.
    pub fn lock_key(&self, ak: &str) {
        let now = self.now();
        self.with(|cloud| cloud.lock_key(now, ak));
    }
}

/// Apps and codes.
impl Simulator {
    /// Makes an app.
    pub fn create_app(&self, new: NewApp) -> App {
        let now = self.now();
        self.with(|cloud| cloud.create_app(now, new))
    }

    /// An app as it is now.
    pub fn app(&self, app_id: &str) -> Option<App> {
        self.shared.look(|cloud| cloud.app(app_id))
    }

    /// Adds a code as somebody else would: the given one or a new one. `None` if there is no such app.
    pub fn add_code(&self, app_id: &str, code: Option<&str>) -> Option<String> {
        let now = self.now();
        self.with(|cloud| cloud.add_code(now, app_id, code))
    }

    /// Removes a code as somebody else would. False if the app does not have it.
    pub fn remove_code(&self, app_id: &str, code: &str) -> bool {
        let now = self.now();
        self.with(|cloud| cloud.remove_code(now, app_id, code))
    }

    /// Removes an app with its codes. False if there is none.
    pub fn remove_app(&self, app_id: &str) -> bool {
        let now = self.now();
        self.with(|cloud| cloud.remove_app(now, app_id))
    }

    /// Gives an app another name. False if there is none.
    pub fn rename_app(&self, app_id: &str, name: &str) -> bool {
        self.with(|cloud| cloud.rename_app(app_id, name))
    }

    /// The codes of an app now, none if there is no such app.
    pub fn live_codes(&self, app_id: &str) -> Vec<String> {
        self.shared.look(|cloud| cloud.live_codes(app_id))
    }

    /// Makes a service that serves only the apps bound to it.
    pub fn add_service(&self, user_id: &str, project_id: &str, name: &str) -> Service {
        self.with(|cloud| cloud.add_service(user_id, project_id, name))
    }

    /// Lets an app call a service.
    pub fn bind(&self, service_id: &str, app_id: &str) -> bool {
        self.with(|cloud| cloud.bind(service_id, app_id))
    }

    /// The status that the data plane gives a code now: 200 or 401 for a service that serves every app.
    pub fn data_plane_status(&self, code: &str) -> u16 {
        let now = self.now();
        self.shared.look(|cloud| cloud.infer_status(now, "any", code))
    }
}

/// Faults and the ledger.
impl Simulator {
    /// Orders a fault.
    pub fn inject(&self, fault: impl Into<Fault>) -> FaultId {
        self.with(|cloud| cloud.inject(fault.into()))
    }

    /// Ends a fault; what it holds or has still to do stays. False if there is none.
    pub fn clear(&self, id: FaultId) -> bool {
        self.with(|cloud| cloud.clear(id))
    }

    /// Ends all faults; what they hold or have still to do stays.
    pub fn clear_all(&self) {
        self.with(Cloud::clear_all);
    }

    /// Does the late work of a fault and lets the answers go that it holds. Returns how many there were.
    pub fn release(&self, id: FaultId) -> usize {
        let now = self.now();
        self.with(|cloud| cloud.release(now, id))
    }

    /// The faults in force.
    pub fn faults(&self) -> Vec<(FaultId, Fault)> {
        self.shared.look(Cloud::faults)
    }

    /// What happened so far.
    pub fn ledger(&self) -> Ledger {
        self.shared.look(|cloud| cloud.ledger().clone())
    }

    /// How often an operation was called.
    pub fn calls(&self, operation: Operation) -> usize {
        self.shared.look(|cloud| cloud.ledger().calls(operation))
    }

    /// Waits until the ledger says so. It waits for ever if need be: wrap it in a time-out.
    pub async fn until(&self, mut wanted: impl FnMut(&Ledger) -> bool) {
        self.shared.until(|cloud| wanted(cloud.ledger())).await;
    }
}
