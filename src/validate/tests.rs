use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::schedule::Rhythm;

pub(super) fn rules() -> Rules {
    Rules {
        endpoints: EndpointRules::default(),
        verification_hosts: VerificationHosts::default(),
        minimum_interval: SignedDuration::from_mins(10),
        daily_budget: 1000,
        allowances: Vec::new(),
        forbid_plaintext: false,
    }
}

/// A valid resource with `spec` merged over its spec; null removes a field.
pub(super) fn resource(spec: &Value) -> AppCodeRotation {
    let mut full = json!({
        "region": "cn-north-4",
        "projectId": "0123456789abcdef0123456789abcdef",
        "appId": "app",
        "credentialsRef": {"name": "credentials"},
    });
    for (field, value) in spec.as_object().unwrap() {
        full[field] = value.clone();
    }
    serde_json::from_value(json!({
        "apiVersion": "appcode.dev/v1alpha1",
        "kind": "AppCodeRotation",
        "metadata": {"name": "rotation", "namespace": "team"},
        "spec": full,
    }))
    .unwrap()
}

pub(super) fn problems(spec: &Value, rules: &Rules) -> Vec<String> {
    let problems = validate(&resource(spec), rules).err().unwrap_or_default();
    problems.into_iter().map(|problem| problem.message).collect()
}

#[test]
fn a_short_spec_is_filled_with_defaults() {
    let valid = validate(&resource(&json!({"schedule": {"interval": "720h"}})), &rules()).unwrap();
    assert_eq!(valid.endpoint, Endpoint::for_region("cn-north-4").unwrap());
    assert_eq!(valid.app.endpoint, valid.endpoint.modelarts);
    assert_eq!(valid.workspace.as_str(), "0");
    assert_eq!(
        (valid.target.name.as_str(), valid.target.key.as_str()),
        ("rotation", "appCode")
    );
    assert_eq!(
        (valid.history_limit, valid.suspend, valid.plaintext),
        (10, false, false)
    );
    assert!(matches!(valid.seed, Seed::None));
    assert!(valid.restart_targets.is_empty() && valid.restart_delay.is_zero());
    let schedule = valid.schedule.unwrap();
    assert_eq!(schedule.rhythm, Rhythm::Interval(SignedDuration::from_hours(720)));
    assert_eq!(schedule.jitter, SignedDuration::from_hours(1));
    assert!(schedule.windows.is_empty());
}

#[test]
fn what_is_written_is_taken() {
    let spec = json!({
        "workspaceId": "abc", "appName": "name", "appRemark": "", "appCodeFrom": {"secretKeyRef": {"name": "s", "key": "k"}},
        "schedule": {"interval": "1h30m", "jitter": "0s"}, "initialRotation": "WhenDue", "rotationTrigger": "1",
        "suspend": true, "target": {"name": "t.x", "key": ".k"}, "statusCode": "Plaintext", "historyLimit": 50,
        "restartTargets": [{"kind": "Deployment", "name": "web"}, {"kind": "DaemonSet", "name": "web"}],
        "restartDelay": "10m",
    });
    let valid = validate(&resource(&spec), &rules()).unwrap();
    assert!(matches!(&valid.seed, Seed::Secret { name, key } if name == "s" && key == "k"));
    assert_eq!((valid.target.name.as_str(), valid.target.key.as_str()), ("t.x", ".k"));
    assert_eq!((valid.history_limit, valid.suspend, valid.plaintext), (50, true, true));
    assert_eq!(valid.initial, Some(InitialRotation::WhenDue));
    let targets: Vec<String> = valid.restart_targets.iter().map(ToString::to_string).collect();
    assert_eq!(targets, ["Deployment/web", "DaemonSet/web"]);
    assert_eq!(valid.restart_delay, SignedDuration::from_mins(10));
    let schedule = valid.schedule.unwrap();
    assert_eq!(
        (schedule.rhythm, schedule.jitter),
        (Rhythm::Interval(SignedDuration::from_mins(90)), SignedDuration::ZERO)
    );
}

#[test]
fn a_tenth_of_the_interval_spreads_rotations_unless_told_otherwise() {
    for (interval, jitter) in [("10m", 60), ("9h", 3240), ("10h", 3600), ("99999h", 3600)] {
        let valid = validate(&resource(&json!({"schedule": {"interval": interval}})), &rules()).unwrap();
        assert_eq!(
            valid.schedule.unwrap().jitter,
            SignedDuration::from_secs(jitter),
            "{interval}"
        );
    }
}

#[test]
fn every_broken_rule_is_told_at_once() {
    let spec = json!({
        "region": "moon", "endpoint": "http://example.com/v1", "projectId": "a/b", "appId": "", "workspaceId": "..",
        "appName": "", "appRemark": "x".repeat(201), "appCode": "a b",
        "appCodeFrom": {"secretKeyRef": {"name": "A", "key": ".."}}, "credentialsRef": {"name": "a..b"},
        "schedule": {"interval": "0s", "jitter": "1d"}, "rotationTrigger": "", "target": {"name": "-", "key": "/"},
        "restartTargets": [{"kind": "Deployment", "name": "a/b"}, {"kind": "Deployment", "name": "a/b"}],
        "restartDelay": "10m1s",
        "verification": {"url": "moon", "expectStatus": 600, "timeout": "1d"}, "statusCode": "Plaintext", "historyLimit": 0,
    });
    let rules = Rules {
        forbid_plaintext: true,
        ..rules()
    };
    let found = problems(&spec, &rules);
    let fields = [
        "exactly one of region and endpoint",
        "spec.region ",
        "spec.endpoint ",
        "spec.projectId ",
        "spec.appId ",
        "spec.workspaceId ",
        "spec.appName ",
        "spec.appRemark ",
        "at most one of appCode",
        "spec.appCodeFrom.secretKeyRef.name ",
        "spec.appCodeFrom.secretKeyRef.key ",
        "spec.appCode ",
        "spec.credentialsRef.name ",
        "longer than zero",
        "spec.schedule.jitter ",
        "spec.rotationTrigger ",
        "spec.target.name ",
        "spec.target.key ",
        "spec.restartTargets[0].name must be the name of a workload",
        "spec.restartTargets[1].name must be the name of a workload",
        "spec.restartTargets[1] must not name",
        "spec.restartDelay must be at most 10m",
        "spec.verification.timeout ",
        "spec.verification.url ",
        "spec.verification.expectStatus ",
        "spec.statusCode",
        "spec.historyLimit ",
    ];
    assert_eq!(found.len(), fields.len(), "{found:#?}");
    for (message, field) in found.iter().zip(fields) {
        assert!(message.contains(field), "{field}: {found:#?}");
    }
    let summary = Problem::sum_up(&validate(&resource(&spec), &rules).unwrap_err());
    assert_eq!(summary.reason, Reason::InvalidSpec);
    assert!(fields.iter().all(|field| summary.message.contains(field)));
}

#[test]
fn the_minimum_interval_is_told_with_its_flag() {
    let found = problems(&json!({"schedule": {"interval": "9m59s"}}), &rules());
    assert_eq!(
        found,
        ["spec.schedule.interval must be at least 10m, the operator's --minimum-interval"]
    );
    assert!(problems(&json!({"schedule": {"interval": "10m"}}), &rules()).is_empty());
}

#[test]
fn an_endpoint_that_could_be_allowed_has_a_reason_of_its_own() {
    let spec = json!({"region": null, "endpoint": "https://modelarts.example.com"});
    let found = validate(&resource(&spec), &rules()).unwrap_err();
    assert_eq!(Problem::sum_up(&found).reason, Reason::EndpointNotAllowed, "{found:?}");
    let pair = Endpoint::parse_pair("https://modelarts.example.com=https://iam.example.com").unwrap();
    let endpoints = EndpointRules {
        allowed: vec![pair.clone()],
        allow_insecure_loopback: false,
    };
    let valid = validate(&resource(&spec), &Rules { endpoints, ..rules() }).unwrap();
    assert_eq!(valid.endpoint, pair);
}

#[test]
fn neither_source_may_be_the_target() {
    for target in [json!({"name": "mine"}), json!(null)] {
        let name = if target.is_null() { "rotation" } else { "mine" };
        let seed = json!({"target": target, "appCodeFrom": {"secretKeyRef": {"name": name, "key": "k"}}});
        assert_eq!(problems(&seed, &rules()), [format!("spec: {SEED_NOT_TARGET}")]);
        let credentials = json!({"target": target, "credentialsRef": {"name": name}});
        assert_eq!(
            problems(&credentials, &rules()),
            [format!("spec: {CREDENTIALS_NOT_TARGET}")]
        );
    }
}

#[test]
fn more_workloads_than_sixteen_are_refused() {
    let targets = |count: usize| {
        let targets: Vec<Value> = (0..count)
            .map(|at| json!({"kind": "StatefulSet", "name": format!("web-{at}")}))
            .collect();
        json!({"restartTargets": targets})
    };
    assert!(problems(&targets(16), &rules()).is_empty());
    assert_eq!(
        problems(&targets(17), &rules()),
        ["spec.restartTargets must be at most 16"]
    );
}

#[test]
fn lengths_count_characters() {
    assert!(
        problems(
            &json!({"appName": "模".repeat(255), "appRemark": "型".repeat(200)}),
            &rules()
        )
        .is_empty()
    );
    assert_eq!(problems(&json!({"appName": "模".repeat(256)}), &rules()).len(), 1);
}

proptest! {
    #[test]
    fn no_text_makes_it_panic_or_is_quoted(texts in prop::collection::vec("[#-~]{6,40}|.{0,40}", 17), limit: i32) {
        let spec = json!({
            "region": texts[0], "endpoint": texts[1], "projectId": texts[2], "appId": texts[3], "workspaceId": texts[4],
            "appCode": format!("canary{}", texts[5]), "appCodeFrom": {"secretKeyRef": {"name": texts[6], "key": texts[7]}},
            "credentialsRef": {"name": texts[8]}, "schedule": {"interval": texts[9], "jitter": texts[10], "cron": texts[12],
            "timeZone": texts[13], "windows": [{"cron": texts[14], "duration": texts[15], "timeZone": texts[16]}]},
            "target": {"name": texts[11]}, "historyLimit": limit, "restartDelay": texts[9],
            "restartTargets": [{"kind": "Deployment", "name": texts[6]}, {"kind": "Deployment", "name": texts[11]}],
        });
        let found = problems(&spec, &rules());
        prop_assert!(!found.is_empty());
        prop_assert!(!found.iter().any(|message| message.contains("canary")));
    }
}
