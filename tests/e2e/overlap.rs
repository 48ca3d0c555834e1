//! What consumers of a Secret notice of a rotation, with the manifests of the docs, Kubernetes' own controllers and the
//! operator's program: by the status of every call that they make.

use std::path::Path;
use std::time::Duration;

use cloud_simulator::{App, Cause, Change, Effect, Fault};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::consumers::{Call, Consumers};
use crate::pages::manifests;
use crate::player::{Player, Readiness, add_node};
use crate::stage::Stage;
use crate::{FLAGS, condition, message};

const NAMESPACE: &str = "inference";
const CONSUMING: &str = "consuming-the-secret.md";
const CHOOSING: &str = "reset-or-overlap.md";
/// Far longer than a file of a pod is old here, on a busy machine too.
const GRACE: &str = "12s";

/// A cluster with the operator, and a namespace with the objects of a page.
struct Scene {
    stage: Stage,
    player: Player,
    consumers: Consumers,
    service: String,
    /// The resources with their apps.
    rotations: Vec<(String, App)>,
}

impl Scene {
    /// `change` is made to each resource of the page before it is applied.
    async fn set(page: &str, change: impl Fn(&mut Value)) -> Self {
        let mut stage = Stage::set_with_controllers(Path::new(env!("CARGO_BIN_EXE_appcode-operator")), FLAGS).await;
        stage.allow_restarts();
        stage.start_operator();
        stage.namespace(NAMESPACE);
        stage.apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "modelarts-credentials", "namespace": NAMESPACE},
            "stringData": {"accessKey": stage.user.ak, "secretKey": stage.user.sk},
        }));
        let admin = Stage::client(stage.plane.admin_kubeconfig()).await;
        for number in 0..2 {
            add_node(&admin, &format!("node-{number}")).await;
        }
        let service = stage
            .cloud
            .add_service(&stage.user.user_id, &stage.project, "shop")
            .service_id;
        let mut consumers = Consumers::of(admin.clone(), NAMESPACE, &stage.cloud, &service);
        let player = Player::start_watched(admin, NAMESPACE, consumers.watcher());
        let mut scene = Self {
            stage,
            player,
            consumers,
            service,
            rotations: Vec::new(),
        };
        for mut object in manifests(page) {
            if object["kind"] == "AppCodeRotation" {
                scene.adapt(&mut object);
                change(&mut object["spec"]);
            }
            if object["kind"] == "RoleBinding" {
                // The page gives the right in one namespace.
                let binding = "clusterrolebinding/appcode-operator-restart";
                scene.stage.kubectl(&["delete", binding]);
            }
            scene.stage.apply(&object);
        }
        for (name, app) in scene.rotations.clone() {
            scene.until_in_order(&name, &app).await;
        }
        scene
    }

    /// Puts what exists here in the place of what a reader has to replace.
    fn adapt(&mut self, object: &mut Value) {
        let app = self.stage.app(1);
        assert!(self.stage.cloud.bind(&self.service, &app.app_id));
        let spec = object["spec"].as_object_mut().unwrap();
        spec.remove("region").expect("the page names a region");
        spec.insert("endpoint".to_owned(), json!(self.stage.cloud.url()));
        spec.insert("projectId".to_owned(), json!(self.stage.project));
        spec.insert("appId".to_owned(), json!(app.app_id));
        if let Some(overlap) = spec.get_mut("overlap") {
            overlap["gracePeriod"] = json!(GRACE);
        }
        if let Some(delay) = spec.get_mut("restartDelay") {
            *delay = json!("1s");
        }
        if let Some(verification) = spec.get_mut("verification") {
            verification["url"] = json!(format!("{}/v1/infers/{}", self.stage.cloud.url(), self.service));
        }
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        self.rotations.push((name, app));
    }

    fn app(&self, name: &str) -> &App {
        let found = self.rotations.iter().find(|(known, _)| known == name);
        &found.expect("the page has such a resource").1
    }

    fn status(&self, name: &str) -> Value {
        self.stage.status(NAMESPACE, name)
    }

    /// Waits until nothing is under way and the Secret holds the app's only code.
    async fn until_in_order(&self, name: &str, app: &App) {
        self.stage
            .until(&format!("{name} is in order"), || {
                let status = self.status(name);
                let live = self.stage.cloud.live_codes(&app.app_id);
                let secret = status["target"]["name"].as_str().unwrap_or_default();
                let is_held = live.len() == 1 && self.stage.code(NAMESPACE, secret).as_ref() == live.first();
                is_held && status["phase"] == "Ready" && status["rotation"].is_null()
            })
            .await;
    }

    /// Asks for a rotation and waits until all of it is over.
    async fn rotate(&self, name: &str) {
        let before = self.status(name)["rotationNumber"].as_i64().unwrap_or(0);
        self.stage.request_rotation(NAMESPACE, name, &format!("after-{before}"));
        self.stage
            .until(&format!("{name} is rotated"), || {
                self.status(name)["rotationNumber"].as_i64() > Some(before)
            })
            .await;
        self.until_in_order(name, self.app(name)).await;
    }

    /// Waits until each pod of the page has called, and each reader.
    async fn until_all_call(&self, callers: usize) {
        self.stage
            .until("every consumer has called", || {
                let mut by: Vec<String> = self.consumers.calls().into_iter().map(|call| call.by).collect();
                by.sort();
                by.dedup();
                by.len() >= callers
            })
            .await;
    }

    /// What became of the codes of an app, in order.
    fn effects(&self, app: &App) -> Vec<Effect> {
        let effects = self.stage.cloud.ledger().effects.into_iter();
        effects.filter(|effect| effect.app == app.app_id).collect()
    }

    /// When a code of an app was made, or removed.
    fn time(&self, app: &App, code: &str, change: Change) -> Timestamp {
        let effects = self.effects(app).into_iter();
        let mut times = effects.filter(|effect| effect.code == code && effect.change == change);
        times.next().expect("that happened to it").time
    }

    fn patch(&self, name: &str, patch: &Value) {
        let patch = patch.to_string();
        self.stage
            .kubectl(&["patch", "acr", name, "-n", NAMESPACE, "--type=merge", "-p", &patch]);
    }

    /// A Deployment like that of the page, with the code of `secret` in its environment, late after some seconds.
    async fn deploy(&self, name: &str, secret: &str) {
        let mut all = manifests(CONSUMING);
        all.retain(|object| object["kind"] == "Deployment" && object["metadata"]["name"] == "checkout");
        let mut object = all.remove(0);
        object["metadata"]["name"] = json!(name);
        object["spec"]["progressDeadlineSeconds"] = json!(3);
        let container = &mut object["spec"]["template"]["spec"]["containers"][0];
        container["env"][0]["valueFrom"]["secretKeyRef"]["name"] = json!(secret);
        self.stage.apply(&object);
        self.stage
            .until("the pods are ready", || {
                self.stage.get(NAMESPACE, "deployment", name)["status"]["readyReplicas"] == 2
            })
            .await;
    }

    /// Asks for a rotation and waits until its grace period runs.
    async fn until_retiring(&self, name: &str, request: &str) {
        self.stage.request_rotation(NAMESPACE, name, request);
        self.stage
            .until("the grace period runs", || {
                let status = self.status(name);
                let is_asked = status["lastHandledRequest"] == request;
                is_asked && status["phase"] == "Retiring" && status["previous"]["retireAfter"].is_string()
            })
            .await;
        let object = self.stage.get(NAMESPACE, "acr", name);
        assert_eq!(object["metadata"]["finalizers"], json!(["appcode.dev/retirement"]));
    }

    /// Waits until a resource was checked twice more, so that a whole pass lies in between.
    async fn until_checked_again(&self, name: &str) {
        for _ in 0..2 {
            let checked = self.status(name)["lastVerifiedTime"].clone();
            self.stage
                .until("another check", || self.status(name)["lastVerifiedTime"] != checked)
                .await;
        }
    }

    /// What a person sees, for whoever reads the test's output.
    fn show(&self, when: &str) {
        let list = self.stage.kubectl(&["get", "acr", "-n", NAMESPACE, "-o", "wide"]);
        let told = self.stage.kubectl(&["describe", "acr", "-n", NAMESPACE]);
        println!("--- {when}\n{list}\n{told}");
    }
}

/// From `from` to the last of these calls.
fn millis(failures: &[Call], from: Timestamp) -> i128 {
    let last = failures.iter().map(|call| call.at).max().unwrap_or(from);
    last.duration_since(from).as_millis()
}

/// The patch with which the page kills a code that has leaked.
fn without_waiting() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(CHOOSING);
    let text = std::fs::read_to_string(path).unwrap();
    let mut patches = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("-p '")?.strip_suffix('\''));
    serde_json::from_str(patches.next_back().expect("the page has a patch")).unwrap()
}

fn told(failures: &[Call]) -> String {
    let lines = failures
        .iter()
        .map(|call| format!("{} {} {}", call.at, call.by, call.status));
    lines.take(10).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_fails_across_an_overlap_while_every_workload_rolls_out() {
    let mut scene = Scene::set(CONSUMING, |_| {}).await;
    scene.consumers.start_reader("checkout-app-code");
    scene.consumers.start_reader("ranking-app-code");
    scene.until_all_call(10).await;

    scene.rotate("checkout").await;
    scene.rotate("ranking").await;
    let failures = scene.consumers.failures();
    assert!(failures.is_empty(), "{}", told(&failures));

    // By the cloud: one code more and then one less for each, and every consumer came to use the new one.
    for name in ["checkout", "ranking"] {
        let app = scene.app(name);
        let effects = scene.effects(app);
        let causes: Vec<Cause> = effects.iter().map(|effect| effect.cause).collect();
        assert_eq!(causes, [Cause::Admin, Cause::Add, Cause::Delete], "{name}");
        let (old, new) = (&effects[0].code, &effects[1].code);
        assert_eq!((&effects[2].code, scene.stage.cloud.data_plane_status(new)), (old, 200));
        let calls = scene.consumers.calls();
        let of = |code: &String| calls.iter().filter(|call| call.code == *code).count();
        println!(
            "{name}: {} calls with the old code, {} with the new one",
            of(old),
            of(new)
        );
        assert!(of(old) > 0 && of(new) > 0);
        let retired = scene.time(app, old, Change::Removed);
        assert!(calls.iter().all(|call| call.code != *old || call.at <= retired));
        println!(
            "{name}: the old code worked for {} more",
            retired.duration_since(effects[1].time)
        );
    }
    let status = scene.status("checkout");
    assert_eq!(condition(&status, "WorkloadsReady"), "True", "{status:#}");
    assert_eq!(status["verification"]["outcome"], "Passed");
    println!("{}", scene.stage.kubectl(&["describe", "acr", "-n", NAMESPACE]));

    // A gateway that learns of new codes late: those who are restarted get them when they work. Those who read again meet
    // a code that does not work yet, for as long as that takes and no longer.
    let delay = SignedDuration::from_secs(4);
    scene.stage.cloud.set_propagation(SignedDuration::ZERO, delay);
    scene.rotate("checkout").await;
    let app = scene.app("checkout");
    let new = scene.stage.code(NAMESPACE, "checkout-app-code").unwrap();
    let made = scene.time(app, &new, Change::Made);
    let failures = scene.consumers.failures();
    let is_of_pod = |call: &&Call| call.by.starts_with("checkout");
    let of_pods: Vec<Call> = failures.iter().filter(is_of_pod).cloned().collect();
    assert!(of_pods.is_empty(), "{}", told(&of_pods));
    let too_early = |call: &Call| call.code == new && call.at < made + delay;
    assert!(failures.iter().all(too_early), "{}", told(&failures));
    println!(
        "with {delay:#} of propagation: {} calls of readers failed within {} ms",
        failures.len(),
        millis(&failures, made)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_reset_calls_fail_from_the_reset_until_the_code_is_read_again_and_no_longer() {
    let mut scene = Scene::set(CONSUMING, |spec| {
        spec["strategy"] = json!("Reset");
        spec.as_object_mut().unwrap().remove("overlap");
    })
    .await;
    scene.consumers.start_reader("checkout-app-code");
    scene.until_all_call(9).await;
    scene.player.set(Readiness::After(Duration::from_secs(2)));

    for name in ["checkout", "ranking"] {
        let old = scene.app(name).codes[0].clone();
        scene.rotate(name).await;
        let app = scene.app(name);
        let causes: Vec<Cause> = scene.effects(app).iter().map(|effect| effect.cause).collect();
        assert_eq!(causes, [Cause::Admin, Cause::Reset, Cause::Reset], "{name}");
        let reset = scene.time(app, &old, Change::Removed);
        let new = scene.stage.cloud.live_codes(&app.app_id).remove(0);
        let start = Timestamp::now();
        scene
            .stage
            .until("nobody calls with the old code any more", || {
                let calls = scene.consumers.calls().into_iter();
                let mut late = calls.filter(|call| call.at > start);
                late.any(|call| call.code == new) && Timestamp::now() > start + SignedDuration::from_secs(2)
            })
            .await;

        let calls = scene.consumers.calls().into_iter();
        let calls: Vec<Call> = calls.filter(|call| call.code == old || call.code == new).collect();
        for call in &calls {
            // Whoever has the new code is served; whoever has the old one was served until the reset.
            assert!(
                !call.is_failed() || (call.code == old && call.until >= reset),
                "{call:?}"
            );
            assert!(call.is_failed() || call.code == new || call.at <= reset, "{call:?}");
        }
        let of = |kind: &str| {
            let them = calls
                .iter()
                .filter(|call| call.is_failed() && call.by.starts_with(kind));
            them.cloned().collect::<Vec<Call>>()
        };
        for kind in ["reader", "checkout", "ranking"] {
            let (failed, millis) = (of(kind).len(), millis(&of(kind), reset));
            println!("Reset of {name}: {failed} calls by {kind} failed, the last {millis} ms after the reset");
        }
        let exposure = scene.status(name)["history"][0]["exposureMillis"].clone();
        println!("Reset of {name}: status.history tells of {exposure} ms");
        assert!(exposure.as_i64().is_some_and(|millis| millis >= 0));
        // A pod that keeps what it read when it started fails until it is restarted.
        assert!(name != "checkout" || !of("checkout").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_is_stuck_keeps_the_old_code_and_a_deleted_resource_leaves_it() {
    let scene = Scene::set(CHOOSING, |_| {}).await;
    scene.rotate("search").await;
    let app = scene.app("search");
    assert_eq!((scene.stage.resets(&app.app_id), scene.effects(app).len()), (1, 3));

    // New pods do not become ready: the old code stays, however short its grace period.
    let name = "recommender";
    let app = scene.app(name);
    scene.deploy(name, "recommender-app-code").await;
    scene.player.set(Readiness::Never);
    scene.patch(name, &json!({"spec": {"overlap": {"gracePeriod": "0s"}}}));
    scene.stage.request_rotation(NAMESPACE, name, "first");
    scene
        .stage
        .until("the roll-out is stuck", || {
            message(&scene.status(name), "WorkloadsReady").starts_with("RolloutHeld")
        })
        .await;
    scene.show("a roll-out is stuck");
    let status = scene.status(name);
    assert_eq!(status["phase"], "Distributing");
    assert!(message(&status, "WorkloadsReady").contains("kubectl describe deployment/recommender"));
    scene.until_checked_again(name).await;
    assert_eq!(scene.stage.cloud.live_codes(&app.app_id).len(), 2);
    assert_eq!(scene.stage.cloud.data_plane_status(&app.codes[0]), 200);

    // Somebody does not want to wait for it.
    assert!(message(&status, "Stalled").contains("a person"));
    scene.patch(name, &without_waiting());
    scene
        .stage
        .until("the old code is gone", || {
            scene.stage.cloud.data_plane_status(&app.codes[0]) == 401
        })
        .await;
    scene.player.set(Readiness::After(Duration::ZERO));
    scene.until_in_order(name, app).await;

    // A long grace period, and the resource is deleted in it: it goes at once, and its codes stay.
    scene.patch(
        name,
        &json!({"spec": {"overlap": {"gracePeriod": "1h", "waitForRollout": null}}}),
    );
    scene.until_retiring(name, "second").await;
    scene.stage.request_rotation(NAMESPACE, name, "third");
    scene
        .stage
        .until("the next rotation waits", || {
            message(&scene.status(name), "Reconciling").contains("starts after that")
        })
        .await;
    scene.show("in the grace period, with another rotation asked for");
    let codes = scene.stage.cloud.live_codes(&app.app_id);
    assert_eq!(codes.len(), 2);
    scene
        .stage
        .kubectl(&["delete", "acr", name, "-n", NAMESPACE, "--timeout=60s"]);
    scene
        .stage
        .until("it is told that a code is left", || {
            let events = scene.stage.kubectl(&["get", "events", "-n", NAMESPACE]);
            events.contains("NotRetired")
        })
        .await;
    println!("{}", scene.stage.kubectl(&["get", "events", "-n", NAMESPACE]));
    assert_eq!(scene.stage.cloud.live_codes(&app.app_id), codes);
    assert_eq!(
        scene.stage.code(NAMESPACE, "recommender-app-code"),
        codes.last().cloned()
    );
}

/// The namespace controller deletes the Secrets first, and the cloud is away.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_while_a_code_waits_to_be_deleted_and_the_cloud_is_down() {
    let scene = Scene::set(CHOOSING, |spec| {
        spec.as_object_mut().unwrap().remove("restartTargets");
    })
    .await;
    let name = "recommender";
    let app = scene.app(name);
    scene.until_retiring(name, "first").await;
    let down = scene.stage.cloud.inject(Fault::cut_before());
    scene.stage.kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"]);
    scene
        .stage
        .until("the namespace is gone", || {
            scene.stage.get(NAMESPACE, "namespace", NAMESPACE).is_null()
        })
        .await;
    scene.stage.cloud.clear(down);
    let live = scene.stage.cloud.live_codes(&app.app_id);
    assert_eq!((live.len(), &live[0]), (2, &app.codes[0]), "nothing was deleted");
}
