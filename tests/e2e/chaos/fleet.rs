//! Some resources that are rotated all the time, and the judge of what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use appcode_operator::ids::{AppId, Fingerprint};
use cloud_simulator::{Cause, Ledger};
use k8s_openapi::ByteString;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::history::History;
use super::members::{Member, NAMESPACE, Strategy, make_members};
use super::traffic::{Asker, Kept, Traffic};
use super::wire::Wire;
use crate::cloud::Cloud;
use crate::condition;
use crate::stage::Stage;

/// Longer than the operator's longest back-off, which a long outage of the cloud leads to.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// Short times in their right order, so that rotations follow each other and an outcome is settled between two kills.
const FLAGS: &[&str] = &[
    "--settle-window=4s",
    "--request-deadline=1s",
    "--connect-timeout=500ms",
    "--minimum-interval=5s",
    "--daily-budget=65000",
    "--check-period=8s",
    "--api-deadline=5s",
    "--caller-rate=50",
    "--total-rate=200",
];
/// The settle window of [`FLAGS`].
pub const SETTLE_WINDOW: Duration = Duration::from_secs(4);

/// What the Secrets of one app say.
struct App {
    strategy: Strategy,
    held: BTreeSet<String>,
    asked: usize,
}

/// A stage with resources on it.
pub struct Fleet {
    /// Where it plays.
    pub stage: Stage,
    /// The way to the cloud.
    pub wire: Wire,
    /// Every resource, those included that were deleted: their Secrets stay.
    pub members: Vec<Member>,
    /// Decides what happens when. It repeats these choices, not what the programs do meanwhile.
    pub random: StdRng,
    /// Who asks for rotations.
    pub asker: Asker,
    /// The seed that was asked for, if one was.
    pub given: Option<u64>,
    history: History,
    seed: u64,
    title: &'static str,
}

impl Fleet {
    /// Makes all resources and lets an operator take their codes over. It is ended then. Operators do not ask each other
    /// who leads: whatever a Lease would forbid them, they may do.
    pub async fn gather(title: &'static str) -> Self {
        Self::gather_with(title, &["--leader-election=false"]).await
    }

    /// The same with other flags about the lead.
    pub async fn gather_with(title: &'static str, lead: &[&str]) -> Self {
        let given = std::env::var("CHAOS_SEED").ok();
        let given = given.map(|seed| seed.parse().expect("a number"));
        let seed = given.unwrap_or_else(rand::random);
        println!("chaos, {title}: CHAOS_SEED={seed}");
        let cloud = Cloud::start();
        let wire = Wire::to(cloud.address()).await.unwrap();
        let endpoint = url_by(&wire);
        let allowed = format!("--allow-endpoint={endpoint}={endpoint}");
        let flags = [FLAGS, lead, &[allowed.as_str()]].concat();
        let mut stage = Stage::before(cloud, Path::new(env!("CARGO_BIN_EXE_appcode-operator")), &flags).await;
        stage.namespace(NAMESPACE);
        stage.allow_restarts();
        let members = make_members(&stage, &endpoint);
        let client = client(stage.plane.admin_kubeconfig()).await;
        stage.start_operator();
        for member in &members {
            stage.until_ready(NAMESPACE, &member.name, &member.app).await;
        }
        stage.end_operator("KILL");
        let asker = Asker::new(&client, NAMESPACE);
        let history = History::of(Api::namespaced(client.clone(), NAMESPACE));
        Self {
            stage,
            wire,
            members,
            given,
            random: StdRng::seed_from_u64(seed),
            asker,
            history,
            seed,
            title,
        }
    }

    /// Keeps asking for rotations of all resources but the first few.
    pub fn traffic_but(&self, few: usize) -> Traffic {
        let names = self.members.iter().skip(few).map(|member| member.name.clone());
        self.asker.keep_asking(names.collect())
    }

    /// Keeps asking for rotations of all resources.
    pub fn traffic(&self) -> Traffic {
        self.traffic_but(0)
    }

    /// Lets a random time below `most` pass.
    pub async fn pause(&mut self, most: Duration) {
        let share: f64 = self.random.random();
        sleep(most.mul_f64(share)).await;
    }

    /// Where operators reach the cloud.
    pub fn endpoint(&self) -> String {
        url_by(&self.wire)
    }

    /// What the Secret of a resource says now.
    pub async fn kept(&self, name: &str) -> Kept {
        self.asker.kept().await.remove(name).unwrap_or_default()
    }

    /// The certificate authority of the API server, as PEM.
    pub fn authority(&self) -> Vec<u8> {
        let authority = &self.operator_config()["clusters"][0]["cluster"]["certificate-authority-data"];
        let authority: ByteString = serde_json::from_value(authority.clone()).unwrap();
        authority.0
    }

    fn operator_config(&self) -> Value {
        let text = std::fs::read_to_string(self.stage.operator_kubeconfig()).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The operator's kubeconfig with another way to the server: `https` by the same authority, or plain `http`.
    pub fn kubeconfig_by(&self, name: &str, url: &str) -> PathBuf {
        let mut config = self.operator_config();
        let cluster = config["clusters"][0]["cluster"].as_object_mut().unwrap();
        cluster.insert("server".into(), json!(url));
        if url.starts_with("http:") {
            cluster.remove("certificate-authority-data");
        }
        let path = self.stage.plane.dir().join(format!("{name}.kubeconfig"));
        std::fs::write(&path, config.to_string()).unwrap();
        path
    }

    /// What stands in the way of rest: resources whose last request is not handled, whose code is dead, or that are not
    /// `Ready`.
    async fn unrest(&self) -> Vec<String> {
        let kept = self.asker.kept().await;
        let mut unrest = Vec::new();
        for Member { name, app, .. } in &self.members {
            let Kept { handled, code, is_over } = kept.get(name).cloned().unwrap_or_default();
            let asked = self.asker.asked(name);
            let live = self.stage.cloud.live_codes(app);
            let is_live = code.is_some_and(|code| live.contains(&code));
            if handled != asked || !is_live || !is_over {
                self.asker.remind(name).await;
                unrest.push(format!(
                    "{name}: {handled} of {asked} handled, live: {is_live}, over: {is_over}"
                ));
            }
        }
        if unrest.is_empty() {
            unrest = self.untold(&kept);
        }
        unrest
    }

    /// What resources do not say as it is, and which a finalizer still holds.
    fn untold(&self, kept: &BTreeMap<String, Kept>) -> Vec<String> {
        let all = self.stage.kubectl(&["get", "acr", "-n", NAMESPACE, "-o", "json"]);
        let all: Value = serde_json::from_str(&all).unwrap();
        let mut untold = Vec::new();
        for one in all["items"].as_array().unwrap() {
            let (meta, status) = (&one["metadata"], &one["status"]);
            let mut members = self.members.iter();
            let member = members.find(|member| meta["name"] == *member.name).unwrap();
            let code = kept[&member.name].code.as_deref().unwrap_or_default();
            let fingerprint = Fingerprint::of(&AppId::parse(&*member.app).unwrap(), code).short();
            let shown = if member.is_shown() { json!(code) } else { Value::Null };
            let is_told = condition(status, "Ready") == "True"
                && status["current"]["fingerprint"] == *fingerprint
                && status["appCode"] == shown;
            if !is_told || !meta["finalizers"].is_null() {
                untold.push(format!("{}, {}: {status}", member.name, meta["finalizers"]));
            }
        }
        untold
    }

    /// Waits for something that must come.
    pub async fn within<T>(&self, what: &str, wanted: impl Future<Output = T>) -> T {
        let wanted = timeout(PATIENCE, wanted).await;
        wanted.unwrap_or_else(|_| panic!("{}\n{}", self.about(what), self.stage.last_words()))
    }

    /// Waits until an operator that is left alone has brought everything to rest.
    pub async fn rest(&self) {
        let start = Instant::now();
        loop {
            let unrest = self.unrest().await;
            if unrest.is_empty() {
                return;
            }
            let is_late = start.elapsed() > PATIENCE;
            assert!(
                !is_late,
                "{}: {unrest:#?}\n{}",
                self.about("no rest"),
                self.stage.last_words()
            );
            sleep(Duration::from_millis(500)).await;
        }
    }

    /// Judges by the ledger and the Secrets, once all is at rest, after so many kills.
    pub async fn judge(&self, kills: usize) {
        self.rest().await;
        let ledger = self.stage.cloud.ledger();
        let kept = self.asker.kept().await;
        let mut apps: BTreeMap<&str, App> = BTreeMap::new();
        let mut seen = 0;
        for Member {
            name, app, strategy, ..
        } in &self.members
        {
            let code = kept[name].code.clone().unwrap();
            let codes = self.history.codes_until(name, &code);
            let codes = self.within(&format!("the watch sees the code of {name}"), codes).await;
            let ages: Vec<usize> = codes
                .iter()
                .map(|code| ledger.age_rank(app, code).expect("a code that the cloud made"))
                .collect();
            let is_ever_newer = ages.is_sorted_by(|older, newer| older < newer);
            assert!(
                is_ever_newer,
                "{} went back to an older code: {ages:?}",
                self.about(name)
            );
            seen += codes.len();
            let app = apps.entry(app).or_insert_with(|| App {
                strategy: *strategy,
                held: BTreeSet::new(),
                asked: 0,
            });
            app.held.insert(code);
            app.asked += self.asker.asked(name);
        }
        let (mut asked, mut resets, mut additions) = (0, 0, 0);
        for (id, app) in &apps {
            let live: BTreeSet<String> = ledger.live_codes(id).into_iter().collect();
            assert_eq!(live, app.held, "{}: a live code is in no Secret", self.about(id));
            let applied = ledger.acts_applied(id, app.strategy.cause());
            assert!(
                applied >= app.asked,
                "{}: {applied} changes for {} requests",
                self.about(id),
                app.asked
            );
            asked += app.asked;
            match app.strategy {
                Strategy::Reset => resets += applied,
                Strategy::Overlap => additions += applied,
            }
        }
        let deletions = self.judge_deletions(&ledger);
        let extra = resets + additions - asked;
        println!(
            "chaos, {}: {kills} kills, {asked} rotations asked for, {resets} resets, {additions} additions, {deletions} \
             deletions, {extra} extra, {seen} codes seen in Secrets, none lost",
            self.title
        );
        assert!(
            extra * 100 <= kills,
            "{}: {extra} extra changes in {kills} kills",
            self.about("all")
        );
    }

    /// No code was deleted that a Secret still held. Returns how many were deleted.
    fn judge_deletions(&self, ledger: &Ledger) -> usize {
        let mut deletions = 0;
        for gone in ledger.effects.iter().filter(|effect| effect.cause == Cause::Delete) {
            // A look sees what was there when it began, or later.
            let is_held = self.asker.last_found(&gone.code).is_some_and(|found| found > gone.time);
            assert!(
                !is_held,
                "{}: a code was deleted that a Secret held",
                self.about(&gone.app)
            );
            deletions += 1;
        }
        deletions
    }

    fn about(&self, what: &str) -> String {
        format!("chaos, {}, CHAOS_SEED={}: {what}", self.title, self.seed)
    }
}

fn url_by(wire: &Wire) -> String {
    format!("http://{}", wire.address())
}

async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    Client::try_from(config).unwrap()
}
