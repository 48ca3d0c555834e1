//! The simulated cloud, as a program of its own: the operator calls its API, and tests arrange, strike and judge at its
//! admin interface. Nothing of it is in the tests' process, and its clock is this machine's.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use cloud_simulator::wire::encode;
use cloud_simulator::{App, Behaviour, Fault, FaultId, Ledger, NewApp, RequestEntry, Service, TemporaryKey, User};
use jiff::SignedDuration;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Bound on one answer of the admin interface; far above what it takes on a busy machine.
const ANSWER: Duration = Duration::from_secs(60);

/// A running cloud. Clones are the same one; it ends with the last of them, or with the test, however that ends.
#[derive(Clone)]
pub struct Cloud {
    address: SocketAddr,
    _program: Arc<Program>,
}

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Cloud {
    /// Starts an empty one on a free port. All of them draw the same ids, keys and codes.
    pub fn start() -> Self {
        // Cargo tells the paths of this package's own programs only; those of the workspace lie beside them.
        let path = Path::new(env!("CARGO_BIN_EXE_appcode-operator")).with_file_name("cloud-simulator");
        assert!(path.exists(), "{} is not there: `make build` makes it", path.display());
        let mut command = Command::new("setpriv"); // so that it ends with us, however we end
        command.args(["--pdeathsig", "KILL"]).arg(path).arg("--log=warn");
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut program = Program(child.expect("the cloud starts"));
        let told = first_object(program.0.stdout.take().expect("the cloud has an output"));
        let url = told["url"].as_str().expect("the cloud tells its URL");
        let address = url.strip_prefix("http://").and_then(|address| address.parse().ok());
        Self {
            address: address.expect("the cloud tells its address"),
            _program: Arc::new(program),
        }
    }

    /// `http://127.0.0.1:port`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Asks the admin interface. `None` if there is no such thing.
    fn ask<T: DeserializeOwned>(&self, method: &str, path: &str, body: &impl Serialize) -> Option<T> {
        let path = format!("/_admin{path}");
        let body = serde_json::to_string(body).expect("what is asked is JSON");
        let (status, answer) = self.send(method, &path, "", &body);
        if status == 404 {
            return None;
        }
        assert_eq!(status, 200, "{method} {path}: {answer}");
        Some(serde_json::from_str(&answer).expect("the admin interface answers as it should"))
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Option<T> {
        self.ask("GET", path, &json!({}))
    }

    /// Posts to a path that takes it from everybody.
    fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> T {
        self.ask("POST", path, body).expect("what it is about exists")
    }

    fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let try_it = || {
            let mut stream = TcpStream::connect(self.address)?;
            stream.set_read_timeout(Some(ANSWER))?;
            let (host, length) = (self.address, body.len());
            // By this version an answer is neither cut into chunks nor followed by another one.
            let head = format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Length: {length}\r\n{headers}\r\n");
            stream.write_all((head + body).as_bytes())?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            std::io::Result::Ok(answer)
        };
        let answer = try_it().expect("the cloud answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("an answer has a status"), body.to_owned())
    }
}

/// The JSON object that a program prints first.
fn first_object(output: impl Read) -> Value {
    let mut text = String::new();
    for line in BufReader::new(output).lines() {
        text += &line.expect("the cloud prints text");
        if let Ok(told) = serde_json::from_str(&text) {
            return told;
        }
    }
    panic!("the cloud ended at once: {text}");
}

/// Who there is, and what the cloud is like.
impl Cloud {
    /// Makes an account, a project and a user at once. Returns the user and the project's id.
    pub fn add_tenant(&self, name: &str) -> (User, String) {
        let made: Value = self.post("/tenants", &json!({"name": name}));
        let user = serde_json::from_value(made["user"].clone()).expect("a user was made");
        (user, text(&made, "projectId"))
    }

    /// Makes a user with a key.
    pub fn add_user(&self, account: &str, name: &str, password: &str) -> User {
        self.post(
            "/users",
            &json!({"accountId": account, "name": name, "password": password}),
        )
    }

    /// Makes a temporary key of a user.
    pub fn add_temporary_key(&self, user: &str, life: SignedDuration) -> TemporaryKey {
        let life = json!({"seconds": life.as_secs()});
        self.post(&format!("/users/{user}/temporary-keys"), &life)
    }

    /// Makes a token of a user for a project.
    pub fn issue_token(&self, user: &str, project: &str) -> String {
        let made: Value = self.post(&format!("/users/{user}/tokens"), &json!({"projectId": project}));
        text(&made, "token")
    }

    /// Changes the switches.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        let mut behaviour = self.get("/behaviour").expect("it behaves");
        change(&mut behaviour);
        let changed = self.ask("PATCH", "/behaviour", &behaviour);
        assert_eq!(changed, Some(behaviour));
    }

    /// Sets how long the data plane takes an old code, and from when on it takes a new one.
    pub fn set_propagation(&self, old_valid_for: SignedDuration, new_valid_after: SignedDuration) {
        let millis = |duration: SignedDuration| u64::try_from(duration.as_millis()).expect("a time from now on");
        self.behave(|behaviour| {
            behaviour.old_code_valid_millis = millis(old_valid_for);
            behaviour.new_code_delay_millis = millis(new_valid_after);
        });
    }

    /// Makes a service that serves only the apps bound to it.
    pub fn add_service(&self, user: &str, project: &str, name: &str) -> Service {
        self.post("/services", &json!({"owner": user, "project": project, "name": name}))
    }

    /// Lets an app call a service. False if there is no such service.
    pub fn bind(&self, service: &str, app: &str) -> bool {
        self.is_done("PUT", &format!("/services/{service}/apps/{app}"))
    }

    /// The status that a call with this code gets, at a service that serves every app.
    pub fn data_plane_status(&self, code: &str) -> u16 {
        let header = format!("X-Apig-AppCode: {code}\r\n");
        self.send("POST", "/v1/infers/any", &header, "{}").0
    }

    fn is_done(&self, method: &str, path: &str) -> bool {
        self.ask::<Value>(method, path, &json!({})).is_some()
    }
}

/// Apps and codes.
impl Cloud {
    /// Makes an app.
    pub fn create_app(&self, new: &NewApp) -> App {
        self.post("/apps", new)
    }

    /// All apps.
    pub fn apps(&self) -> Vec<App> {
        self.get("/apps").expect("there are apps")
    }

    /// Adds a code as somebody else would: the given one or a new one. `None` if there is no such app.
    pub fn add_code(&self, app: &str, code: Option<&str>) -> Option<String> {
        let added: Option<Value> = self.ask("POST", &format!("/apps/{app}/codes"), &json!({"code": code}));
        added.map(|added| text(&added, "code"))
    }

    /// Removes a code as somebody else would. False if the app does not have it.
    pub fn remove_code(&self, app: &str, code: &str) -> bool {
        self.is_done("DELETE", &format!("/apps/{app}/codes/{}", encode(code)))
    }

    /// The codes of an app now, none if there is no such app.
    pub fn live_codes(&self, app: &str) -> Vec<String> {
        self.get(&format!("/apps/{app}/codes")).unwrap_or_default()
    }
}

/// Faults and the ledger.
impl Cloud {
    /// Orders a fault.
    pub fn inject(&self, fault: impl Into<Fault>) -> FaultId {
        let ordered: Value = self.post("/faults", &fault.into());
        serde_json::from_value(ordered["id"].clone()).expect("a fault has an id")
    }

    /// Ends a fault; what it holds or has still to do stays. False if there is none.
    pub fn clear(&self, fault: FaultId) -> bool {
        self.is_done("DELETE", &format!("/faults/{}", fault.0))
    }

    /// Does the late work of a fault and lets the answers go that it holds. Returns how many there were.
    pub fn release(&self, fault: FaultId) -> usize {
        let released: Value = self.post(&format!("/faults/{}/release", fault.0), &json!({}));
        serde_json::from_value(released["released"].clone()).expect("a number")
    }

    /// The requests that a fault struck.
    pub fn struck_by(&self, fault: FaultId) -> Vec<RequestEntry> {
        let struck = self.get(&format!("/faults/{}/requests", fault.0));
        struck.expect("the program is of this build: `make build` makes it")
    }

    /// From now on counts requests that hold this text.
    pub fn count_requests_with(&self, unwanted: &str) {
        self.post::<Value>("/unwanted", &json!({"text": unwanted}));
    }

    /// How many requests held such a text.
    pub fn requests_with_unwanted(&self) -> u64 {
        let counted: Value = self
            .get("/unwanted")
            .expect("the program is of this build: `make build` makes it");
        counted["requests"].as_u64().expect("a number")
    }

    /// What happened so far.
    pub fn ledger(&self) -> Ledger {
        self.get("/ledger").expect("there is a ledger")
    }
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().expect("a text").to_owned()
}
