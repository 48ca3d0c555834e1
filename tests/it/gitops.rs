//! What GitOps tools make of a resource: kstatus (Flux, kpt, `kubectl` plugins), the CEL of a Flux Kustomization, and the
//! health script for Argo CD in `deploy/argocd`, on statuses that the real controller wrote.

pub mod health;

use appcode_operator::api::{AppCodeRotation, ConditionType, Phase};
use appcode_operator::args::Args;
use appcode_operator::validate::validate;
use appcode_operator::verification::Probe;
use clap::Parser;
use cloud_simulator::{Fault, Operation};
use jiff::SignedDuration;
use kube::core::cel::Validator;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use self::health::{Argo, kstatus};
use crate::support::World;
use crate::support::api_server::{Object, ROTATIONS};
use crate::support::prober::INFERENCE_HOST;
use crate::support::stage::{NAME, NAMESPACE};
use crate::support::workloads::{Played, target};

/// What the page tells to put into a Kustomization of Flux.
const FLUX: [(&str, &str); 3] = [
    ("InProgress", "status.observedGeneration != metadata.generation"),
    (
        "Failed",
        "status.conditions.exists(c, c.type == 'Stalled' && c.status == 'True')",
    ),
    (
        "Current",
        "status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')",
    ),
];

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/gitops.md");
    std::fs::read_to_string(path).unwrap()
}

impl World {
    fn object(&self) -> Object {
        self.stage.api.object(ROTATIONS, NAMESPACE, NAME).unwrap()
    }

    /// Checks what the tools say of the resource as it stands: kstatus, the expressions for Flux, Argo CD.
    fn assert_health(&self, argo: &Argo, phase: Option<Phase>, said: [&str; 3]) {
        let object = self.object();
        let shown = serde_json::from_value(object["status"]["phase"].clone()).ok();
        let (status, message) = argo.health(&object);
        let found = [kstatus(&object), flux(&object), &status];
        assert_eq!((shown, found), (phase, said), "{message}\n{:#}", object["status"]);
    }
}

/// What Flux makes of its expressions: the first one that is true, in this order; an error is no answer yet.
fn flux(object: &Value) -> &'static str {
    let is_true = |expression: &str| {
        let rule = expression
            .replace("status.observed", "self.status.observed")
            .replace("status.conditions", "self.status.conditions")
            .replace("metadata.", "self.metadata.");
        let schema = json!({"type": "object", "x-kubernetes-validations": [{"rule": rule}]});
        Validator::new().validate(&schema, object, None).is_ok()
    };
    let mut found = FLUX.iter().filter(|(_, expression)| is_true(expression));
    found.next().map_or("InProgress", |(status, _)| status)
}

async fn minutes(world: &mut World, minutes: i64) {
    world.run_for(SignedDuration::from_mins(minutes)).await;
    world.assert_sound();
}

#[tokio::test]
async fn a_resource_is_in_progress_until_it_was_looked_at_and_after_each_edit() {
    let argo = Argo::new();
    let mut world = World::new().await;
    world.stage.create_rotation(|_| ());
    // Without any status the rules of kstatus see nothing to wait for, as of any kind they do not know.
    world.assert_health(&argo, None, ["Current", "InProgress", "Progressing"]);
    world.run_to_rest().await;
    world.assert_health(&argo, Some(Phase::Ready), ["Current", "Current", "Healthy"]);

    world.stage.set_trigger("one");
    world.assert_health(&argo, Some(Phase::Ready), ["InProgress", "InProgress", "Progressing"]);
    world.run_to_rest().await;
    world.assert_health(&argo, Some(Phase::Ready), ["Current", "Current", "Healthy"]);
}

#[tokio::test]
async fn one_that_waits_for_a_person_has_failed_until_it_is_mended() {
    let argo = Argo::new();
    let mut world = World::settled().await;
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["appName"] = json!("another"));
    world.run_to_rest().await;
    world.assert_health(&argo, Some(Phase::Stalled), ["Failed", "Failed", "Degraded"]);
    let (_, message) = argo.health(&world.object());
    assert!(message.starts_with("AppNameMismatch: "), "{message}");
    world.stage.edit_rotation(NAME, |object| {
        object["spec"].as_object_mut().unwrap().remove("appName");
    });
    world.run_to_rest().await;
    world.assert_health(&argo, Some(Phase::Ready), ["Current", "Current", "Healthy"]);
}

#[tokio::test]
async fn one_that_is_suspended_is_current_and_argo_cd_says_suspended() {
    let argo = Argo::new();
    let mut world = World::settled().await;
    let suspend = |world: &World, value: bool| {
        world
            .stage
            .edit_rotation(NAME, |object| object["spec"]["suspend"] = json!(value));
    };
    suspend(&world, true);
    world.run_to_rest().await;
    world.assert_health(&argo, Some(Phase::Suspended), ["Current", "Current", "Suspended"]);
    suspend(&world, false);
    world.run_to_rest().await;
    world.assert_health(&argo, Some(Phase::Ready), ["Current", "Current", "Healthy"]);
}

#[tokio::test]
async fn a_rotation_whose_outcome_is_open_is_in_progress() {
    let argo = Argo::new();
    let mut world = World::settled().await;
    let fault = Fault::cut_before().at(Operation::Reset).once();
    world.stage.cloud.with(|cloud| cloud.inject(fault));
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_secs(30)).await;
    world.assert_health(
        &argo,
        Some(Phase::Rotating),
        ["InProgress", "InProgress", "Progressing"],
    );
    minutes(&mut world, 10).await;
    world.assert_health(&argo, Some(Phase::Ready), ["Current", "Current", "Healthy"]);
}

/// kstatus says `InProgress` for all of it, which may be hours: the page says what to do about that.
#[tokio::test]
async fn a_code_that_works_is_healthy_while_it_is_handed_over_and_the_one_before_lives() {
    let argo = Argo::new();
    let mut world = World::new().await;
    world.stage.create_workload(&target("Deployment/web"));
    world.stage.create_rotation(|spec| {
        spec["strategy"] = json!("Overlap");
        spec["overlap"] = json!({"gracePeriod": "1h"});
        spec["restartTargets"] = json!([{"kind": "Deployment", "name": "web"}]);
    });
    world.run_to_rest().await;
    world.stage.set_trigger("one");
    minutes(&mut world, 5).await;
    world.assert_health(&argo, Some(Phase::Distributing), ["InProgress", "Current", "Healthy"]);
    world.stage.play(&target("Deployment/web"), Played::DONE);
    minutes(&mut world, 10).await;
    world.assert_health(&argo, Some(Phase::Retiring), ["InProgress", "Current", "Healthy"]);
    minutes(&mut world, 120).await;
    world.assert_health(&argo, Some(Phase::Ready), ["Current", "Current", "Healthy"]);
}

#[tokio::test]
async fn a_code_that_its_service_refuses_is_degraded_though_nothing_stops() {
    let argo = Argo::new();
    let mut world = World::new().await;
    world.stage.create_rotation(|spec| {
        spec["verification"] = json!({ "url": format!("https://{INFERENCE_HOST}/v1/infers/any-service") });
    });
    world.run_to_rest().await;
    let refused = (0..1000).map(|_| Probe::Refused { status: 401 });
    world.stage.probes.lock().unwrap().extend(refused);
    world.stage.set_trigger("one");
    minutes(&mut world, 10).await;
    assert_eq!(world.condition(ConditionType::Ready).1, "VerificationFailed");
    world.assert_health(
        &argo,
        Some(Phase::Distributing),
        ["InProgress", "InProgress", "Degraded"],
    );
}

#[tokio::test]
async fn one_that_the_cloud_has_not_confirmed_for_hours_is_no_longer_healthy() {
    let argo = Argo::new();
    let mut world = World::settled().await;
    world.stage.cloud.with(|cloud| cloud.inject(Fault::status_before(503)));
    minutes(&mut world, 300).await;
    let (status, reason, _) = world.condition(ConditionType::Ready);
    assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "NotVerified"));
    let object = world.object();
    let (health, _) = argo.health(&object);
    assert_eq!(
        (kstatus(&object), flux(&object), health.as_str()),
        ("InProgress", "InProgress", "Progressing")
    );
}

/// A script that fails shows as an error in Argo CD, so it must bear whatever a status may lack.
#[test]
fn the_script_bears_a_status_that_lacks_things() {
    let argo = Argo::new();
    for status in [
        json!(null),
        json!({}),
        json!({"observedGeneration": 1}),
        json!({"observedGeneration": 1, "conditions": []}),
        json!({"observedGeneration": 1, "conditions": [{"type": "Other", "status": "True"}]}),
        json!({"conditions": [{"type": "Ready", "status": "True", "reason": "CodeListed", "message": "of an earlier one"}]}),
    ] {
        let object = json!({"metadata": {"generation": 1}, "spec": {}, "status": status});
        assert_eq!(argo.health(&object).0, "Progressing", "{object}");
        let object = json!({"metadata": {"generation": 1, "deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {}});
        assert_eq!(kstatus(&object), "Terminating");
    }
}

#[test]
fn the_page_shows_the_script_and_the_expressions_as_they_are_tried_here() {
    let page = page();
    let indented: String = health::SCRIPT
        .lines()
        .map(|line| {
            if line.is_empty() {
                "\n".to_owned()
            } else {
                format!("    {line}\n")
            }
        })
        .collect();
    assert!(
        page.contains(&indented),
        "deploy/argocd/health.lua is not in docs/gitops.md as it stands"
    );
    for (_, expression) in FLUX {
        assert!(page.contains(expression), "{expression}");
    }
}

/// Blocks of YAML in the pages for people who install.
#[test]
fn each_manifest_in_the_pages_is_whole_and_each_resource_is_taken() {
    let mut rules = Args::parse_from(["appcode-operator"]).settings().unwrap().rules;
    rules.allowances.clear();
    let (mut manifests, mut rotations) = (0, 0);
    for file in ["gitops.md", "install.md", "security.md"] {
        let text = std::fs::read_to_string(format!("{}/docs/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        for block in text
            .split("```yaml\n")
            .skip(1)
            .map(|rest| rest.split("\n```").next().unwrap())
        {
            for part in block.split("\n---\n") {
                let object: Value =
                    serde_saphyr::from_str(part).unwrap_or_else(|error| panic!("{file}: {error}\n{part}"));
                // A block without a kind shows some fields only.
                if object["kind"].is_null() {
                    continue;
                }
                assert!(
                    object["apiVersion"].is_string() && object["metadata"]["name"].is_string(),
                    "{file}: {part}"
                );
                manifests += 1;
                if object["kind"] == "AppCodeRotation" {
                    let rotation: AppCodeRotation = serde_json::from_value(object.clone()).unwrap();
                    assert_eq!(validate(&rotation, &rules).err(), None, "{file}: {part}");
                    assert_eq!(
                        super::crd::crd_refusals(&object),
                        Vec::<String>::new(),
                        "{file}: {part}"
                    );
                    rotations += 1;
                }
            }
        }
    }
    assert!(manifests > rotations && rotations >= 2, "{manifests} {rotations}");
}
