//! Restarts, and looks at them, through the operator's own calls on an API server in memory.

use std::sync::Arc;
use std::time::Duration;

use appcode_operator::controller::workloads::{Fence, Marking, Restarted, look, restart};
use appcode_operator::controller::{Cluster, ClusterError};
use appcode_operator::ids::RotationId;
use appcode_operator::workload::{RestartTarget, Rollout, WorkloadKind, marker};
use serde_json::{Value, json};

use crate::support::api_server::Object;
use crate::support::script::{Act, ApiFault, Call, Moment, Strike, Verb};
use crate::support::stage::{NAME, NAMESPACE};
use crate::support::workloads::{Played, plural, target};
use crate::support::{Stage, alone};

const SECRET: &str = "checkout";

/// A stage with the Secret and three workloads, one of each kind, and what a restart of them needs.
struct Scene {
    stage: Arc<Stage>,
    cluster: Cluster,
    marker: String,
    id: RotationId,
    /// The Secret's version at the decision.
    version: String,
}

impl Scene {
    fn set() -> Self {
        let stage = Stage::direct(1);
        stage.create_secret(SECRET, &[("appCode", "new")]);
        for target in all() {
            stage.create_workload(&target);
        }
        let version = stage.secret(SECRET).unwrap()["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .to_owned();
        Self {
            cluster: Cluster::new(stage.client(), Duration::from_secs(60)),
            stage,
            marker: marker(NAME),
            id: RotationId::from_random(7),
            version,
        }
    }

    fn marking(&self) -> Marking<'_> {
        Marking {
            namespace: NAMESPACE,
            marker: &self.marker,
            id: &self.id,
        }
    }

    async fn restart(&self, target: &RestartTarget) -> Result<Restarted, ClusterError> {
        self.restart_while(target, || true).await
    }

    async fn restart_while(&self, target: &RestartTarget, leads: impl Fn() -> bool) -> Result<Restarted, ClusterError> {
        let fence = Fence {
            secret: SECRET,
            resource_version: &self.version,
        };
        restart(&self.cluster, self.marking(), fence, target, leads).await
    }

    /// Looks, with these on record as restarted.
    async fn look(&self, restarted: &[RestartTarget]) -> Vec<Rollout> {
        let marks: Vec<String> = restarted.iter().filter_map(|target| self.mark(target)).collect();
        let found = look(&self.cluster, self.marking(), &all(), &marks).await;
        let targets: Vec<_> = found.iter().map(|looked| looked.target.clone()).collect();
        assert_eq!(targets, all());
        found.into_iter().map(|looked| looked.rollout).collect()
    }

    fn mark(&self, target: &RestartTarget) -> Option<String> {
        let workload = self.stage.workload(target)?;
        Some(format!("{target}/{}", workload["metadata"]["uid"].as_str().unwrap()))
    }

    /// Strikes one call of a restart: 0 reads the workload, 1 reads the Secret, 2 patches.
    fn strike(&self, at: usize, strike: Strike) {
        self.stage.script.begin(vec![(at, strike)]);
    }
}

fn all() -> [RestartTarget; 3] {
    WorkloadKind::ALL.map(|kind| target(&format!("{kind}/web")))
}

fn act(name: &'static str, work: impl Fn(&Stage) + Send + Sync + 'static) -> Strike {
    Strike::Act(Moment::Before, Act::new(name, work))
}

/// Everything of an object that a restart must not change.
fn but_for_the_mark(object: Object, marker: &str) -> Value {
    let mut object = Object::unwrap_or_clone(object);
    object["metadata"]
        .as_object_mut()
        .unwrap()
        .retain(|key, _| !["resourceVersion", "generation"].contains(&key.as_str()));
    let annotations = object["spec"]["template"]["metadata"]["annotations"]
        .as_object_mut()
        .unwrap();
    annotations.remove(marker);
    object
}

#[test]
fn a_restart_adds_one_annotation_to_the_template_and_is_not_made_twice() {
    alone(async {
        let scene = Scene::set();
        for target in all() {
            let before = scene.stage.workload(&target).unwrap();
            assert!(matches!(scene.restart(&target).await.unwrap(), Restarted::Now(_)));
            assert_eq!(scene.stage.mark_of(&target, NAME).as_deref(), Some(scene.id.as_str()));
            let after = scene.stage.workload(&target).unwrap();
            assert_eq!(
                but_for_the_mark(after, &scene.marker),
                but_for_the_mark(before, &scene.marker)
            );

            assert_eq!(scene.restart(&target).await.unwrap(), Restarted::Already);
            assert_eq!(scene.stage.changes_of(&target), 1);
        }
        assert_eq!(scene.stage.api.violations(), [""; 0]);
        for asked in scene.stage.api.asked().iter().filter(|asked| asked.verb == Verb::Patch) {
            assert_eq!(asked.query["fieldManager"], "appcode-operator");
        }
    });
}

#[test]
fn a_look_tells_how_far_each_workload_is() {
    alone(async {
        let scene = Scene::set();
        assert_eq!(scene.look(&[]).await, vec![Rollout::NotRestarted; 3]);
        for target in all() {
            scene.restart(&target).await.unwrap();
        }
        assert!(
            scene
                .look(&[])
                .await
                .iter()
                .all(|it| matches!(it, Rollout::Progressing { .. })),
            "not seen yet"
        );
        for played in [Played::Replaced(0), Played::Replaced(2), Played::Ready(2)] {
            for target in all() {
                scene.stage.play(&target, played);
            }
            let found = scene.look(&[]).await;
            assert!(
                found.iter().all(|it| matches!(it, Rollout::Progressing { .. })),
                "{played:?}: {found:?}"
            );
        }
        for target in all() {
            scene.stage.play(&target, Played::DONE);
        }
        assert_eq!(scene.look(&[]).await, vec![Rollout::Done; 3]);

        let [web, set, daemon] = all();
        scene
            .stage
            .edit_workload(&web, |object| object["spec"]["paused"] = json!(true));
        scene.stage.play(&web, Played::Replaced(0));
        scene.stage.edit_workload(&set, |object| {
            object["spec"]["template"]["metadata"]["annotations"] = json!({});
        });
        scene.stage.delete_workload(&daemon);
        let expected = [Rollout::Paused, Rollout::RolledBack, Rollout::Missing];
        assert_eq!(scene.look(&all()).await, expected);
        scene
            .stage
            .edit_workload(&web, |object| object["spec"]["paused"] = json!(false));
        scene.stage.play(&web, Played::Late);
        assert!(matches!(scene.look(&all()).await[0], Rollout::Stuck { .. }));
    });
}

#[test]
fn a_missing_right_is_told_and_stops_nothing_else() {
    alone(async {
        let scene = Scene::set();
        let [web, set, daemon] = all();
        scene.stage.api.revoke(plural(web.kind), Verb::Get, true);
        scene.stage.api.revoke(plural(set.kind), Verb::Patch, true);
        assert!(matches!(scene.restart(&web).await.unwrap(), Restarted::Forbidden(why) if why.contains("deployments")));
        assert!(
            matches!(scene.restart(&set).await.unwrap(), Restarted::Forbidden(why) if why.contains("statefulsets"))
        );
        assert!(matches!(scene.restart(&daemon).await.unwrap(), Restarted::Now(_)));
        let found = scene.look(&[]).await;
        assert!(
            matches!(&found[0], Rollout::Forbidden(why) if why.contains("deployments")),
            "{found:?}"
        );
        assert_eq!(found[1], Rollout::NotRestarted);

        scene.stage.api.revoke(plural(web.kind), Verb::Get, false);
        assert!(matches!(scene.restart(&web).await.unwrap(), Restarted::Now(_)));
        // A policy that refuses the patch is told too.
        scene.stage.api.revoke(plural(set.kind), Verb::Patch, false);
        scene.strike(2, Strike::Api(Moment::Before, ApiFault::Status(422)));
        assert!(matches!(scene.restart(&set).await.unwrap(), Restarted::Forbidden(why) if why.contains("policy")));
    });
}

#[test]
fn nothing_is_restarted_for_a_decision_that_no_longer_holds() {
    alone(async {
        let scene = Scene::set();
        let [web, ..] = all();
        // The Secret changes, or goes, after the workload was read.
        scene.strike(
            1,
            act("write the Secret", |stage| {
                stage.edit_secret(SECRET, &[("appCode", "newer")]);
            }),
        );
        assert_eq!(scene.restart(&web).await.unwrap(), Restarted::Superseded);
        scene.strike(
            1,
            act("delete the Secret", |stage| assert!(stage.delete_secret(SECRET))),
        );
        assert_eq!(scene.restart(&web).await.unwrap(), Restarted::Superseded);
        assert_eq!(scene.stage.changes_of(&web), 0);
    });
}

#[test]
fn a_workload_that_changes_meanwhile_is_read_again_with_the_secret() {
    alone(async {
        let scene = Scene::set();
        let [web, ..] = all();
        // Its controller writes status just before the patch.
        let played = web.clone();
        scene.strike(
            2,
            act("a pod comes up", move |stage| stage.play(&played, Played::Replaced(1))),
        );
        assert!(matches!(scene.restart(&web).await.unwrap(), Restarted::Now(_)));
        let reads = |resource: &str| {
            let calls = scene.stage.script.calls().into_iter();
            calls
                .filter(|call| matches!(call, Call::Api { verb: Verb::Get, resource: of, .. } if *of == resource))
                .count()
        };
        assert_eq!((reads("deployments"), reads("secrets")), (2, 2));

        // A newer rotation wrote the Secret and marked the workload between our reads and our patch.
        let [_, set, _] = all();
        let marked = set.clone();
        let newer = act("a newer rotation", move |stage| {
            stage.edit_secret(SECRET, &[("appCode", "newer")]);
            stage.edit_workload(&marked, |object| {
                object["spec"]["template"]["metadata"]["annotations"][marker(NAME)] = json!("newer");
            });
        });
        scene.strike(2, newer);
        assert_eq!(scene.restart(&set).await.unwrap(), Restarted::Superseded);
        assert_eq!(scene.stage.mark_of(&set, NAME).as_deref(), Some("newer"));
    });
}

#[test]
fn who_leads_no_more_after_a_patch_that_was_refused_sends_no_other() {
    alone(async {
        let scene = Scene::set();
        let [web, ..] = all();
        let played = web.clone();
        let moved = act("a pod comes up", move |stage| stage.play(&played, Played::Replaced(1)));
        scene.strike(2, moved);
        let asked = std::cell::Cell::new(0);
        let leads = || asked.replace(asked.get() + 1) == 0;
        assert_eq!(scene.restart_while(&web, leads).await.unwrap(), Restarted::Superseded);
        assert_eq!((asked.get(), scene.stage.changes_of(&web)), (2, 0));
    });
}

#[test]
fn a_workload_that_never_stands_still_is_tried_again_later() {
    alone(async {
        let scene = Scene::set();
        let [web, ..] = all();
        let played = web.clone();
        let restless = act("pods come and go", move |stage| {
            let pods = stage.api.version() % 3;
            stage.play(&played, Played::Replaced(i32::try_from(pods).unwrap()));
        });
        let is_patch = |call: &Call| matches!(call, Call::Api { verb: Verb::Patch, .. });
        scene.stage.script.begin_lasting(restless, 0, is_patch);
        assert!(matches!(scene.restart(&web).await, Err(ClusterError::Conflict)));
        assert!(scene.stage.script.count(is_patch) <= 5);
    });
}

#[test]
fn a_lost_answer_is_found_to_have_restarted() {
    alone(async {
        let scene = Scene::set();
        let [web, set, daemon] = all();
        for fault in [ApiFault::Cut, ApiFault::Status(503)] {
            scene.strike(2, Strike::Api(Moment::After, fault));
            let target = if fault == ApiFault::Cut { &web } else { &set };
            assert!(matches!(scene.restart(target).await, Err(ClusterError::Failed(_))));
            assert_eq!(scene.restart(target).await.unwrap(), Restarted::Already);
            assert_eq!(scene.stage.changes_of(target), 1);
        }
        // A failure of the Secret is none of the workload.
        scene.strike(1, Strike::Api(Moment::Before, ApiFault::Status(403)));
        assert!(matches!(scene.restart(&daemon).await, Err(ClusterError::Refused(_))));
        // It goes between the read and the patch.
        let gone = daemon.clone();
        scene.strike(2, act("delete it", move |stage| assert!(stage.delete_workload(&gone))));
        assert_eq!(scene.restart(&daemon).await.unwrap(), Restarted::Missing);
        assert_eq!(scene.restart(&daemon).await.unwrap(), Restarted::Missing);
    });
}
