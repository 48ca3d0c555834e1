use serde_json::{Value, json};

use super::*;
use crate::workload::{WorkloadKind, marker};

const DONE: Rollout = Rollout::Done;

fn progressing(what: &'static str) -> Rollout {
    Rollout::Progressing { what }
}

fn id() -> RotationId {
    RotationId::from_random(7)
}

/// A workload in its fourth generation with three pods, restarted and rolled out; `spec` and `status` are merged over it,
/// null removes a field.
fn workload(kind: WorkloadKind, spec: &Value, status: &Value) -> Workload {
    let template = json!({"metadata": {"annotations": {marker("checkout"): id().as_str()}}});
    let whole = |mut whole: Value, part: &Value| {
        for (field, value) in part.as_object().unwrap() {
            whole[field] = value.clone();
        }
        whole
    };
    let spec = whole(
        json!({"replicas": 3, "selector": {}, "serviceName": "web", "template": template}),
        spec,
    );
    let rolled_out = match kind {
        WorkloadKind::Deployment => json!({"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}),
        WorkloadKind::StatefulSet => {
            json!({"replicas": 3, "updatedReplicas": 3, "readyReplicas": 3, "currentRevision": "b", "updateRevision": "b"})
        }
        WorkloadKind::DaemonSet => json!({
            "desiredNumberScheduled": 3, "updatedNumberScheduled": 3, "numberAvailable": 3, "numberReady": 3,
            "currentNumberScheduled": 3, "numberMisscheduled": 0,
        }),
    };
    let status = whole(whole(rolled_out, &json!({"observedGeneration": 4})), status);
    let object = json!({"metadata": {"name": "web", "generation": 4}, "spec": spec, "status": status});
    match kind {
        WorkloadKind::Deployment => Workload::Deployment(serde_json::from_value(object).unwrap()),
        WorkloadKind::StatefulSet => Workload::StatefulSet(serde_json::from_value(object).unwrap()),
        WorkloadKind::DaemonSet => Workload::DaemonSet(serde_json::from_value(object).unwrap()),
    }
}

fn rollout(workload: &Workload) -> Rollout {
    let rollout = Rollout::of(Some(workload), &marker("checkout"), &id(), false);
    let again = Rollout::of(Some(workload), &marker("checkout"), &id(), true);
    assert_eq!(
        rollout, again,
        "the template tells that it was restarted, whatever is on record"
    );
    rollout
}

fn check(kind: WorkloadKind, name: &str, spec: &Value, status: &Value, expected: &Rollout) {
    assert_eq!(rollout(&workload(kind, spec, status)), *expected, "{kind}: {name}");
}

#[test]
fn a_workload_that_is_gone_or_going_is_missing() {
    assert_eq!(Rollout::of(None, &marker("checkout"), &id(), true), Rollout::Missing);
    let mut going = workload(WorkloadKind::Deployment, &json!({}), &json!({}));
    let Workload::Deployment(it) = &mut going else {
        unreachable!()
    };
    it.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    assert_eq!(rollout(&going), Rollout::Missing);
}

#[test]
fn a_template_without_our_rotation_was_not_restarted_or_was_rolled_back() {
    let templates = [
        json!({}),
        json!({"metadata": {}}),
        json!({"metadata": {"annotations": {marker("checkout"): RotationId::from_random(6).as_str()}}}),
        json!({"metadata": {"annotations": {marker("other"): id().as_str()}}}),
    ];
    for kind in WorkloadKind::ALL {
        for template in &templates {
            let it = workload(kind, &json!({"template": template, "paused": true}), &json!({}));
            let of = |was_restarted| Rollout::of(Some(&it), &marker("checkout"), &id(), was_restarted);
            assert_eq!(
                (of(false), of(true)),
                (Rollout::NotRestarted, Rollout::RolledBack),
                "{kind} {template}"
            );
        }
    }
}

#[test]
fn a_deployment_is_followed_as_kubectl_follows_it() {
    let none = json!({"replicas": null, "updatedReplicas": null, "availableReplicas": null});
    let ending = json!({"replicas": 1, "updatedReplicas": 0, "availableReplicas": 1});
    let one = json!({"updatedReplicas": 1, "replicas": 4});
    for (name, spec, status, expected) in [
        ("rolled out", json!({}), json!({}), DONE),
        (
            "unseen",
            json!({}),
            json!({"observedGeneration": 3}),
            progressing(UNSEEN),
        ),
        (
            "never seen",
            json!({}),
            json!({"observedGeneration": null}),
            progressing(UNSEEN),
        ),
        (
            "no new pod",
            json!({}),
            json!({"updatedReplicas": null}),
            progressing(REPLACING),
        ),
        ("one new pod", json!({}), one, progressing(REPLACING)),
        (
            "an old pod left",
            json!({}),
            json!({"replicas": 4}),
            progressing(ENDING),
        ),
        (
            "one unavailable",
            json!({}),
            json!({"availableReplicas": 2}),
            progressing(NOT_AVAILABLE),
        ),
        (
            "none available",
            json!({}),
            json!({"availableReplicas": null}),
            progressing(NOT_AVAILABLE),
        ),
        (
            "one by default",
            json!({"replicas": null}),
            json!({"updatedReplicas": 0}),
            progressing(REPLACING),
        ),
        ("no pods", json!({"replicas": 0}), none.clone(), DONE),
        ("no pods, paused", json!({"replicas": 0, "paused": true}), none, DONE),
        (
            "no pods, and one that ends",
            json!({"replicas": 0}),
            ending,
            progressing(ENDING),
        ),
    ] {
        check(WorkloadKind::Deployment, name, &spec, &status, &expected);
    }
}

#[test]
fn a_paused_deployment_says_so_until_it_is_done() {
    for (name, status, expected) in [
        ("before it", json!({"updatedReplicas": 0}), Rollout::Paused),
        ("half-way", json!({"replicas": 4}), Rollout::Paused),
        ("unseen", json!({"observedGeneration": 3}), Rollout::Paused),
        ("after it", json!({}), DONE),
    ] {
        check(
            WorkloadKind::Deployment,
            name,
            &json!({"paused": true}),
            &status,
            &expected,
        );
    }
}

#[test]
fn a_deployment_past_its_deadline_is_stuck() {
    let late = json!([
        {"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"},
        {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"},
    ]);
    let going_on = json!([{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}]);
    let stuck = Rollout::Stuck { why: DEADLINE };
    let earlier = progressing(UNSEEN);
    for (name, status, expected) in [
        (
            "going on",
            json!({"updatedReplicas": 1, "conditions": going_on}),
            progressing(REPLACING),
        ),
        ("late", json!({"updatedReplicas": 1, "conditions": late}), stuck.clone()),
        (
            "late with an old pod",
            json!({"replicas": 4, "conditions": late}),
            stuck,
        ),
        (
            "late with the change before",
            json!({"observedGeneration": 3, "conditions": late}),
            earlier,
        ),
        ("late and there after all", json!({"conditions": late}), DONE),
    ] {
        check(WorkloadKind::Deployment, name, &json!({}), &status, &expected);
    }
}

#[test]
fn a_stateful_set_is_followed_to_its_revision() {
    let rolling = |partition: i32| json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}});
    let on_delete = json!({"updateStrategy": {"type": "OnDelete"}});
    let open =
        |updated: i32, ready: i32| json!({"updatedReplicas": updated, "readyReplicas": ready, "currentRevision": "a"});
    let partition = Rollout::Manual { what: PARTITION };
    let manual = Rollout::Manual { what: ON_DELETE };
    for (name, spec, status, expected) in [
        ("rolled out", rolling(0), json!({}), DONE),
        ("without a strategy", json!({}), json!({}), DONE),
        (
            "unseen",
            rolling(0),
            json!({"observedGeneration": 3}),
            progressing(UNSEEN),
        ),
        (
            "never seen",
            rolling(0),
            json!({"observedGeneration": null}),
            progressing(UNSEEN),
        ),
        ("one new pod", rolling(0), open(1, 3), progressing(REPLACING)),
        (
            "a pod that is away",
            rolling(0),
            json!({"replicas": 2, "updatedReplicas": 2}),
            progressing(REPLACING),
        ),
        ("the last one not ready", rolling(0), open(3, 2), progressing(NOT_READY)),
        (
            "all there and not closed",
            rolling(0),
            open(3, 3),
            progressing(NOT_CLOSED),
        ),
        (
            "a pod too many",
            rolling(0),
            json!({"replicas": 4, "readyReplicas": 4}),
            progressing(ENDING),
        ),
        ("within the partition", rolling(2), open(0, 3), progressing(REPLACING)),
        ("up to the partition", rolling(2), open(1, 3), partition.clone()),
        ("all below the partition", rolling(9), open(0, 3), partition),
        ("partitioned when all was done", rolling(2), json!({}), DONE),
        ("by hand", on_delete.clone(), open(0, 3), manual.clone()),
        ("by hand, half-way", on_delete.clone(), open(2, 2), manual),
        (
            "by hand, the last one not ready",
            on_delete.clone(),
            open(3, 2),
            progressing(NOT_READY),
        ),
        ("by hand, all deleted", on_delete, open(3, 3), DONE),
        (
            "no pods",
            json!({"replicas": 0}),
            json!({"replicas": 0, "updatedReplicas": null, "readyReplicas": null, "currentRevision": "a"}),
            DONE,
        ),
        (
            "no pods, and one that ends",
            json!({"replicas": 0}),
            json!({"replicas": 1, "updatedReplicas": 0}),
            progressing(ENDING),
        ),
    ] {
        check(WorkloadKind::StatefulSet, name, &spec, &status, &expected);
    }
}

#[test]
fn a_daemon_set_is_followed_on_every_node() {
    let on_delete = json!({"updateStrategy": {"type": "OnDelete"}});
    let manual = Rollout::Manual { what: ON_DELETE };
    for (name, spec, status, expected) in [
        ("rolled out", json!({}), json!({}), DONE),
        (
            "unseen",
            json!({}),
            json!({"observedGeneration": 3}),
            progressing(UNSEEN),
        ),
        (
            "never seen",
            json!({}),
            json!({"observedGeneration": null}),
            progressing(UNSEEN),
        ),
        (
            "no new pod",
            json!({}),
            json!({"updatedNumberScheduled": null}),
            progressing(REPLACING),
        ),
        (
            "one new pod",
            json!({}),
            json!({"updatedNumberScheduled": 1}),
            progressing(REPLACING),
        ),
        (
            "a new pod unavailable",
            json!({}),
            json!({"numberAvailable": 2}),
            progressing(NOT_AVAILABLE),
        ),
        (
            "by hand",
            on_delete.clone(),
            json!({"updatedNumberScheduled": 2}),
            manual,
        ),
        (
            "by hand, unavailable",
            on_delete.clone(),
            json!({"numberAvailable": 2}),
            progressing(NOT_AVAILABLE),
        ),
        ("by hand, all deleted", on_delete, json!({}), DONE),
        (
            "no nodes",
            json!({}),
            json!({"desiredNumberScheduled": 0, "updatedNumberScheduled": null, "numberAvailable": null}),
            DONE,
        ),
    ] {
        check(WorkloadKind::DaemonSet, name, &spec, &status, &expected);
    }
}

fn all() -> Vec<Rollout> {
    vec![
        Rollout::Missing,
        Rollout::Forbidden("deployments.apps \"web\" is forbidden".to_owned()),
        Rollout::NotRestarted,
        Rollout::RolledBack,
        Rollout::Paused,
        progressing(REPLACING),
        Rollout::Stuck { why: DEADLINE },
        Rollout::Manual { what: ON_DELETE },
        Rollout::Manual { what: PARTITION },
        DONE,
    ]
}

const KUBECTL: Kubectl<'_> = Kubectl {
    namespace: "shop",
    name: "checkout",
};

#[test]
fn a_person_is_told_what_is_the_case_and_what_to_do() {
    let target = RestartTarget::parse("StatefulSet/web").unwrap();
    for rollout in all() {
        let told = rollout.told(&target);
        assert!(told.starts_with("StatefulSet/web "), "{told}");
        assert!(
            !told.chars().any(|c| c.is_ascii_digit() && c != '0'),
            "a count in {told}"
        );
        // What a person is needed for comes with what to do.
        assert_eq!(told.contains("; "), rollout.is_held(), "{told}");
        assert_eq!(
            !rollout.remedy(&target, KUBECTL).is_empty(),
            rollout.is_held(),
            "{told}"
        );
    }
    let remedy = |rollout: Rollout| rollout.remedy(&target, KUBECTL);
    assert_eq!(
        remedy(Rollout::Paused),
        ["kubectl rollout resume statefulset/web -n shop"]
    );
    assert_eq!(
        remedy(Rollout::RolledBack),
        [
            "kubectl rollout restart statefulset/web -n shop",
            "kubectl edit acr checkout -n shop"
        ]
    );
    let partitioned = Rollout::Manual { what: PARTITION }.told(&target);
    assert!(
        partitioned.contains("the whole new template to all pods"),
        "{partitioned}"
    );
    let [partition] = remedy(Rollout::Manual { what: PARTITION }).try_into().unwrap();
    assert!(
        partition.starts_with("kubectl patch statefulset/web -n shop --type=merge -p '{"),
        "{partition}"
    );
    assert_eq!(
        remedy(Rollout::Manual { what: ON_DELETE }),
        ["kubectl delete pod POD -n shop"]
    );
}

#[test]
fn a_summary_leaves_out_what_is_done_and_puts_first_what_needs_a_person() {
    let target = |name: &str| RestartTarget::parse(&format!("Deployment/{name}")).unwrap();
    assert_eq!(
        told(&[(target("a"), DONE)], KUBECTL),
        "Every workload of restartTargets has rolled out."
    );
    let rollouts = [
        (target("a"), Rollout::NotRestarted),
        (target("b"), DONE),
        (target("c"), Rollout::Paused),
    ];
    assert_eq!(
        told(&rollouts, KUBECTL),
        "Deployment/c is paused, so its pods keep the earlier code; resume it. Deployment/a has not been restarted yet.\n      \
         kubectl rollout resume deployment/c -n shop"
    );
    let many: Vec<_> = ["a", "b", "c"].map(|name| (target(name), Rollout::Paused)).into();
    assert_eq!(
        told(&many, KUBECTL).lines().count(),
        3,
        "two commands are enough to begin with"
    );
}
