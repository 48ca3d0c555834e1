//! What a person has and does who follows the page.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::rc::Rc;
use std::time::Duration;

use appcode_operator::api::{AppCodeRotation, AppCodeRotationStatus, ConditionType, Reason};
use appcode_operator::remedy;
use cloud_simulator::{App, User};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::page::{self, Block};
use super::{Suite, root};
use crate::cloud::Cloud;
use crate::player::Player;
use crate::stage::PATIENCE;

/// The resource that stops.
pub const NAME: &str = "one";

/// One stop in a namespace of its own.
pub struct Case {
    suite: Rc<Suite>,
    reason: Reason,
    number: usize,
    namespace: String,
    /// What the words of the page stand for here.
    words: BTreeMap<&'static str, String>,
    /// The commands of the message that a person was told.
    told: RefCell<Vec<String>>,
    /// What `kubectl edit` opens, if a person edits something here.
    editor: Option<PathBuf>,
}

/// The namespace of a case.
pub fn namespace(reason: Reason, number: usize) -> String {
    format!("{}-{number}", reason.as_str().to_lowercase())
}

impl Case {
    pub fn new(suite: &Rc<Suite>, reason: Reason, number: usize) -> Self {
        let namespace = namespace(reason, number);
        let words = BTreeMap::from([
            ("NAME", NAME.to_owned()),
            ("NAMESPACE", namespace.clone()),
            ("SECRET", NAME.to_owned()),
            ("CREDENTIALS", "credentials".to_owned()),
            ("SEED", "seed".to_owned()),
            ("NEW_SECRET", "new".to_owned()),
            ("NEW_CREDENTIALS", "new-credentials".to_owned()),
        ]);
        Self {
            suite: Rc::clone(suite),
            reason,
            number,
            namespace,
            words,
            told: RefCell::default(),
            editor: None,
        }
    }

    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    pub fn cloud(&self) -> &Cloud {
        &self.suite.stage.cloud
    }

    pub fn suite(&self) -> &Suite {
        &self.suite
    }

    pub fn shared_suite(&self) -> Rc<Suite> {
        Rc::clone(&self.suite)
    }

    pub fn client(&self) -> kube::Client {
        self.suite.client.clone()
    }

    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// Makes the pods of the namespace ready.
    pub fn player(&self) -> Player {
        Player::start(self.suite.client.clone(), &self.namespace)
    }

    /// What a person reads.
    pub async fn describe(&self) -> String {
        self.shell(self.suite.script(0)).await
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.suite.client.clone(), &self.namespace)
    }

    // ── what there is ──────────────────────────────────────────────────────────────────────────────────────────────

    /// An app of the tenant with so many codes.
    pub fn app(&self, codes: usize) -> App {
        self.suite.stage.app(codes)
    }

    /// The namespace, with credentials of the tenant.
    pub async fn open(&self) {
        let namespaces: Api<Namespace> = Api::all(self.suite.client.clone());
        let namespace = serde_json::from_value(json!({"metadata": {"name": self.namespace}})).unwrap();
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        self.credentials("credentials", &self.suite.stage.user).await;
    }

    pub async fn secret(&self, name: &str, texts: Value) {
        self.create::<Secret>(json!({"metadata": {"name": name}, "stringData": texts}))
            .await;
    }

    pub async fn credentials(&self, name: &str, user: &User) {
        self.secret(name, json!({"accessKey": user.ak, "secretKey": user.sk}))
            .await;
    }

    /// Makes a Secret by `kubectl apply`, which afterwards takes for its own whatever it has put there, with a key and a label
    /// beside `texts` that nobody mends.
    pub async fn apply_secret(&mut self, namespace: &str, name: &str, mut texts: Value) {
        texts["other"] = json!("kept");
        let meta = json!({"name": name, "namespace": namespace, "labels": {"other": "kept"}});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "example.com/any", "stringData": texts});
        self.file("MANIFEST_FILE", &secret.to_string());
        self.shell("kubectl apply -f MANIFEST_FILE").await;
    }

    /// What `apply_secret` made is as it was, but for the keys that were mended: these are there, too.
    pub async fn assert_kept(&self, namespace: &str, name: &str, mended: &[&str]) {
        let secrets: Api<Secret> = Api::namespaced(self.client(), namespace);
        let secret = secrets.get(name).await.unwrap();
        let data = secret.data.unwrap();
        assert_eq!(data["other"].0, b"kept");
        assert!(mended.iter().all(|key| data.contains_key(*key)), "{:?}", data.keys());
        assert_eq!(secret.type_.as_deref(), Some("example.com/any"));
        assert_eq!(secret.metadata.labels.unwrap()["other"], "kept");
    }

    pub async fn create<K>(&self, object: Value)
    where
        K: Resource<Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug,
        K::DynamicType: Default,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api::<K>().create(&PostParams::default(), &object).await.unwrap();
    }

    /// A resource, with more fields of spec.
    pub async fn rotation(&self, name: &str, app: &str, more: Value) {
        let object = self.suite.stage.rotation(&self.namespace, name, app, &more);
        self.create::<AppCodeRotation>(object).await;
    }

    pub async fn patch<K>(&self, name: &str, patch: Value)
    where
        K: Resource<Scope = NamespaceResourceScope> + DeserializeOwned + Clone + Debug,
        K::DynamicType: Default,
    {
        let (api, params) = (self.api::<K>(), PatchParams::default());
        api.patch(name, &params, &Patch::Merge(patch)).await.unwrap();
    }

    /// Opens the namespace if need be, makes the resource and waits until it is ready.
    pub async fn start_ready(&self, app: &App, more: Value) {
        let namespaces: Api<Namespace> = Api::all(self.suite.client.clone());
        if namespaces.get_opt(&self.namespace).await.unwrap().is_none() {
            self.open().await;
        }
        self.rotation(NAME, &app.app_id, more).await;
        self.ready(NAME, NAME, &app.app_id).await;
    }

    pub async fn request_rotation(&self, value: &str) {
        let request = json!({"metadata": {"annotations": {"appcode.dev/rotate-requested-at": value}}});
        self.patch::<AppCodeRotation>(NAME, request).await;
    }

    // ── what shows ─────────────────────────────────────────────────────────────────────────────────────────────────

    pub fn status(&self, name: &str) -> AppCodeRotationStatus {
        let Some(resource) = self.suite.seen.get(&self.namespace, name) else {
            return AppCodeRotationStatus::default();
        };
        // A status about an earlier spec tells nothing.
        let is_current = |status: &AppCodeRotationStatus| status.observed_generation == resource.metadata.generation;
        resource.status.clone().filter(is_current).unwrap_or_default()
    }

    pub async fn code(&self, secret: &str) -> Option<String> {
        let secret = self.api::<Secret>().get_opt(secret).await.unwrap()?;
        let ByteString(code) = secret.data?.remove("appCode")?;
        String::from_utf8(code).ok()
    }

    pub async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) {
        let start = std::time::Instant::now();
        while !is_so().await {
            if start.elapsed() > PATIENCE {
                let object = self.api::<AppCodeRotation>().get_opt(NAME).await;
                panic!("waited in vain in {}: {what}\n{object:?}", self.namespace);
            }
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
    }

    /// Waits until the resource is ready and its Secret holds a code that the cloud lists.
    pub async fn ready(&self, name: &str, secret: &str, app: &str) {
        let is_ready = async || {
            let status = self.status(name);
            let is_well = status.is_true(ConditionType::Ready) && !status.is_true(ConditionType::Stalled);
            let is_live = |code| self.cloud().live_codes(app).contains(&code);
            is_well && self.code(secret).await.is_some_and(is_live)
        };
        self.until(&format!("{name} is ready"), is_ready).await;
    }

    /// Waits until the resource stops with the case's reason, and reads what `kubectl describe` says: what is concerned,
    /// that nothing is changed, and what to do.
    pub async fn stops(&self, concerned: &[&str], remedy: &str) {
        let stalled = || {
            let status = self.status(NAME);
            let stalled = status.condition(ConditionType::Stalled).cloned();
            stalled.filter(|it| it.status == "True" && it.reason == self.reason.as_str())
        };
        self.until("the stop", async || stalled().is_some()).await;
        let described = self.describe().await;
        let message = stalled().expect("the stop stays").message;
        for text in [&message, self.reason.as_str(), "Stalled"] {
            assert!(described.contains(text), "{text} is not in\n{described}");
        }
        for text in concerned.iter().chain([&remedy]) {
            assert!(message.contains(text), "{text} is not in: {message}");
        }
        let reassures = ["nothing is changed", "nothing more is changed"];
        assert!(reassures.iter().any(|text| message.contains(text)), "{message}");
        self.is_told(&message, &described);
    }

    /// The message has commands, `kubectl describe` shows each on a line of its own, and they are the page's.
    pub fn is_told(&self, message: &str, described: &str) {
        let commands: Vec<String> = remedy::commands(message).map(str::to_owned).collect();
        assert!(!commands.is_empty(), "no command in: {message}");
        let shown: Vec<&str> = described.lines().map(str::trim).collect();
        let page = self.suite.scripts(self.reason).flat_map(Block::commands);
        let page: Vec<String> = page.map(|line| self.fill(&line)).collect();
        for command in &commands {
            assert!(shown.contains(&command.as_str()), "{command} is not in\n{described}");
            let filled = self.fill(command);
            assert!(page.contains(&filled), "{filled} is not on the page: {page:#?}");
        }
        if std::env::var_os("RUNBOOK_ONLY").is_some() {
            println!("{described}");
        }
        *self.told.borrow_mut() = commands;
    }

    // ── what a person does ─────────────────────────────────────────────────────────────────────────────────────────

    /// What a word of the page stands for.
    pub fn word(&mut self, word: &'static str, value: &str) {
        self.words.insert(word, value.to_owned());
    }

    pub fn value(&self, word: &str) -> &str {
        let value = self.words.get(word);
        value.unwrap_or_else(|| panic!("nothing stands for {word} in {}", self.namespace))
    }

    /// A word of the page that stands for a file with this text, ended as an editor does.
    pub fn file(&mut self, word: &'static str, text: &str) {
        let folder: PathBuf = self.suite.stage.plane.dir().join(&self.namespace);
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join(word);
        fs::write(&file, format!("{text}\n")).unwrap();
        self.word(word, file.to_str().unwrap());
    }

    /// Lets `kubectl edit` be answered by this program of `sed`.
    pub fn edits(&mut self, program: &str) {
        self.file("EDITOR_FILE", &format!("#!/bin/sh\nexec sed -i '{program}' \"$1\""));
        let editor = PathBuf::from(self.value("EDITOR_FILE"));
        fs::set_permissions(&editor, fs::Permissions::from_mode(0o755)).unwrap();
        self.editor = Some(editor);
    }

    pub fn files_of(&mut self, user: &User) {
        self.file("ACCESS_FILE", &user.ak);
        self.file("KEY_FILE", &user.sk);
    }

    /// Computes the fingerprint of a code as the page says.
    pub async fn fingerprint(&mut self, app: &str, code: &str) {
        self.word("APP_ID", app);
        self.file("CODE_FILE", code);
        let print = self.shell(self.suite.script(2)).await;
        self.word("FINGERPRINT", print.trim());
    }

    /// Runs the commands of the case's block; returns what they print. Notes whether the message alone would have told them.
    pub async fn follow(&self) -> String {
        let block = self.suite.scripts(self.reason).nth(self.number);
        let block = block.expect("the page has such a block");
        let told: Vec<String> = self.told.borrow().iter().map(|command| self.fill(command)).collect();
        if block.commands().iter().all(|line| told.contains(&self.fill(line))) {
            self.suite.told.borrow_mut().insert(self.reason);
        }
        self.shell(&block.script).await
    }

    /// Runs other commands as the administrator; returns what they print.
    pub async fn run(&self, script: &str) -> String {
        self.shell(script).await
    }

    /// Runs commands of the page with its words replaced; returns what they print.
    async fn shell(&self, script: &str) -> String {
        for word in script
            .split(|c| !page::is_of_word(c))
            .filter(|part| page::is_word(part))
        {
            self.value(word);
        }
        let script = self.fill(script);
        let path = std::env::var("PATH").unwrap();
        let mut shell = Command::new("sh");
        shell
            .args(["-euc", &script])
            .env("PATH", format!("{}:{path}", self.suite.tools.display()))
            .current_dir(root());
        if let Some(editor) = &self.editor {
            shell.env("KUBE_EDITOR", editor);
        }
        let run = move || {
            // A server whose connection to its store broke is asked again, as a person would.
            let is_broken = |ran: &Output| String::from_utf8_lossy(&ran.stderr).contains("desc = unexpected EOF");
            let ran = shell.output().unwrap();
            if is_broken(&ran) { shell.output().unwrap() } else { ran }
        };
        let ran = tokio::task::spawn_blocking(run).await.unwrap();
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{script}: {said}");
        String::from_utf8(ran.stdout).unwrap()
    }

    /// The same with those words replaced that something stands for by now.
    fn fill(&self, script: &str) -> String {
        let (mut filled, mut rest) = (String::new(), script);
        while let Some(c) = rest.chars().next() {
            let end = rest
                .find(|c| !page::is_of_word(c))
                .unwrap_or(rest.len())
                .max(c.len_utf8());
            let (part, left) = rest.split_at(end);
            filled += self.words.get(part).map_or(part, String::as_str);
            rest = left;
        }
        filled
    }

    /// The end of a case: the resource is ready, and its app was changed so many times and no more.
    pub async fn ends(&self, name: &str, secret: &str, app: &str, changes: usize) {
        self.until("the changes that the page tells of", async || {
            self.suite.changes(app) >= changes
        })
        .await;
        self.ready(name, secret, app).await;
        assert_eq!(self.suite.changes(app), changes, "{}", self.namespace);
        self.suite.ended.borrow_mut().push((app.to_owned(), changes));
    }

    pub fn assert_unchanged(&self, app: &App) {
        assert_eq!(self.suite.changes(&app.app_id), 0, "{}", self.namespace);
        assert_eq!(self.cloud().live_codes(&app.app_id), app.codes, "{}", self.namespace);
    }
}
