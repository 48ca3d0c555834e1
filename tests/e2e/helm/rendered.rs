//! What values come to: names, lists, the notes, and the words by which values that contradict each other are refused.

use serde_json::{Value, json};

use super::{RELEASE, ask, helm, objects, render};

#[test]
fn values_that_contradict_each_other_are_refused_in_words() {
    let cases = [
        (json!({"unknown": 1}), "unknown"),
        (json!({"image": {"registry": "x"}}), "registry"),
        (json!({"image": {"digest": "sha256:abc"}}), "digest"),
        (json!({"settings": {"requestDeadline": "0s"}}), "requestDeadline"),
        (json!({"settings": {"checkPeriod": "an hour"}}), "checkPeriod"),
        (json!({"podSecurityContext": {"runAsUser": 0}}), "runAsUser"),
        (json!({"watchNamespaces": ["A"]}), "watchNamespaces"),
        (json!({"alerts": {"runbookBaseUrl": "docs"}}), "runbookBaseUrl"),
        (json!({"settings": {"resourceMetrics": -1}}), "resourceMetrics"),
        (
            json!({"replicas": 2, "leaderElection": {"enabled": false}}),
            "leaderElection.enabled",
        ),
        (json!({"rbac": {"scope": "Namespaces"}}), "watchNamespaces names none"),
        (json!({"terminationGracePeriodSeconds": 55}), "set it above 55"),
        (
            json!({"terminationGracePeriodSeconds": 60, "settings": {"shutdownGrace": "1m"}}),
            "set it above 90",
        ),
        (json!({"serviceAccount": {"create": false}}), "serviceAccount.name"),
        (
            json!({"defaultIdentity": {"allow": ["a=b"]}}),
            "defaultIdentity.secretName",
        ),
        (
            json!({"extraCA": {"configMapName": "a", "secretName": "b"}}),
            "at most one of extraCA",
        ),
        (
            json!({"proxy": {"url": "http://a", "secretName": "b"}}),
            "at most one of proxy",
        ),
        (
            json!({"networkPolicy": {"enabled": true}}),
            "networkPolicy.apiServer.cidrs",
        ),
        (
            json!({"podDisruptionBudget": {"enabled": true, "maxUnavailable": 0}}),
            "maxUnavailable",
        ),
        (json!({"podMonitor": {"interval": "1s1m"}}), "interval"),
    ];
    let asks: Vec<Value> = cases.iter().map(|(values, _)| ask(RELEASE, values)).collect();
    for ((values, part), answer) in cases.iter().zip(helm(&json!(asks))) {
        let error = answer.expect_err(&values.to_string());
        assert!(error.contains(part), "{values}: {error}");
    }
}

/// A Service has a name of its own kind: no dots, and a letter first.
#[test]
fn a_release_of_any_name_gets_names_that_its_objects_may_have_or_is_refused() {
    let own = json!({"fullnameOverride": "own"});
    let asks = [("a.b", &json!({})), ("1st", &own), ("1st", &json!({}))].map(|(name, values)| ask(name, values));
    let [dots, named, digit] = helm(&json!(asks)).try_into().unwrap();
    for (rendered, name) in [(dots, "a-b-appcode-operator"), (named, "own")] {
        let objects = objects(&rendered.unwrap());
        let service = objects.iter().find(|object| object["kind"] == "Service").unwrap();
        assert_eq!(service["metadata"]["name"], name);
    }
    let refused = digit.unwrap_err();
    assert!(refused.contains("set fullnameOverride"), "{refused}");
}

#[test]
fn what_a_person_gives_in_full_is_rendered_as_it_is() {
    let spread = |more: Value| {
        let mut constraint = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
        constraint
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        constraint
    };
    let theirs = spread(json!({"labelSelector": {"matchLabels": {"team": "ml"}}}));
    let cidrs = ["0.0.0.0/0", "::/0", "10.9.8.0/24"];
    let policy = json!({"enabled": true, "apiServer": {"cidrs": ["10.0.0.1/32"]}, "cloud": {"cidrs": cidrs}});
    let rendered = render(&[
        json!({"topologySpreadConstraints": [spread(json!({})), theirs], "defaultIdentity": {"secretName": "own"}}),
        json!({"podSecurityContext": {"fsGroup": null}, "defaultIdentity": {"secretName": "own"}, "networkPolicy": policy}),
    ]);
    let find = |objects: &[Value], kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap().clone();
    let pod = |objects: &[Value]| find(objects, "Deployment")["spec"]["template"]["spec"].clone();
    let [grouped, alone] = [pod(&rendered[0]), pod(&rendered[1])];
    let ours = json!({"labelSelector": {"matchLabels": {"app.kubernetes.io/name": RELEASE}}});
    assert_eq!(grouped["topologySpreadConstraints"], json!([spread(ours), theirs]));
    // Only by a group can a program that is not root read what root alone may write.
    let mode = |pod: &Value| {
        let volumes = pod["volumes"].as_array().unwrap();
        let own = volumes.iter().find(|volume| volume["secret"]["secretName"] == "own");
        own.unwrap()["secret"]["defaultMode"].clone()
    };
    assert_eq!((mode(&grouped), mode(&alone)), (json!(0o440), json!(0o444)));
    let policy = find(&rendered[1], "NetworkPolicy");
    let to = policy["spec"]["egress"].as_array().unwrap().last().unwrap()["to"].clone();
    let except = |place: usize| -> Vec<String> {
        assert_eq!(to[place]["ipBlock"]["cidr"], cidrs[place]);
        serde_json::from_value(to[place]["ipBlock"]["except"].clone()).unwrap_or_default()
    };
    assert!(except(0).contains(&"169.254.0.0/16".to_owned()) && except(0).iter().all(|block| !block.contains(':')));
    assert_eq!(except(1), ["::1/128", "fc00::/7", "fe80::/10"]);
    assert_eq!(except(2), Vec::<String>::new());
}

/// Together they keep a replica through the loss of a node and through drains.
#[test]
fn replicas_are_spread_and_not_all_evicted_unless_a_person_says_so() {
    let values = [
        json!({}),
        json!({"replicas": 3, "podDisruptionBudget": {"maxUnavailable": 2}}),
        json!({"replicas": 1}),
        json!({"podDisruptionBudget": {"enabled": false}, "topologySpreadConstraints": []}),
    ];
    let ours = json!({"app.kubernetes.io/name": RELEASE});
    let spread = json!([{
        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": ours},
    }]);
    let budget = |most: u32| json!({"maxUnavailable": most, "selector": {"matchLabels": ours}});
    let expected = [
        (Some(budget(1)), spread.clone()),
        (Some(budget(2)), spread.clone()),
        (None, spread),
        (None, json!(null)),
    ];
    for ((values, objects), expected) in values.iter().zip(render(&values)).zip(expected) {
        let spec = |kind: &str| {
            objects
                .iter()
                .find(|object| object["kind"] == kind)
                .map(|object| &object["spec"])
        };
        let pod = &spec("Deployment").unwrap()["template"]["spec"];
        let found = (
            spec("PodDisruptionBudget").cloned(),
            pod["topologySpreadConstraints"].clone(),
        );
        assert_eq!(found, expected, "{values}");
    }
}

#[test]
fn the_notes_tell_what_to_do_next_and_what_may_surprise() {
    let policy = |more: Value| {
        let mut policy = json!({"enabled": true, "apiServer": {"cidrs": ["10.0.0.1/32"], "ports": [5443]}});
        policy
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        json!({"networkPolicy": policy, "serviceMonitor": {"enabled": true}})
    };
    let locked = "Prometheus cannot reach the pod";
    let cases = [
        (json!({}), "serves all namespaces", "EVERY"),
        (
            json!({}),
            "helm test appcode-operator -n appcode-system",
            "creationPolicy",
        ),
        (
            json!({}),
            "kubectl describe clusterrole appcode-operator",
            "network policy",
        ),
        (json!({}), "kubectl create secret generic modelarts-credentials", locked),
        (
            json!({"watchNamespaces": ["a", "b"], "rbac": {"scope": "Namespaces"}}),
            "kubectl describe role appcode-operator -n a",
            "clusterrole",
        ),
        (
            json!({"rbac": {"create": false}}),
            "nothing, until somebody",
            "describe clusterrole",
        ),
        (
            json!({"rbac": {"createSecrets": false}}),
            "say creationPolicy: Merge",
            "EVERY",
        ),
        (json!({"crds": {"enabled": false}}), "has to be there", "EVERY"),
        (
            json!({"crds": {"keep": false}}),
            "Delete the\nresources first, while the operator runs",
            "and their definition in place",
        ),
        (policy(json!({})), "at 10.0.0.1/32 on the ports 5443", "creationPolicy"),
        (policy(json!({})), locked, "creationPolicy"),
        (
            policy(json!({"metricsFrom": [{"podSelector": {}}]})),
            "0.0.0.0/0 on the ports 443",
            locked,
        ),
    ];
    let asks: Vec<Value> = cases.iter().map(|(values, ..)| ask(RELEASE, values)).collect();
    for ((values, told, left_out), rendered) in cases.iter().zip(helm(&json!(asks))) {
        let rendered = rendered.unwrap();
        let is_notes = |(file, _): &(&String, &Value)| file.ends_with("NOTES.txt");
        let (_, notes) = rendered.as_object().unwrap().iter().find(is_notes).unwrap();
        let notes = notes.as_str().unwrap();
        assert!(notes.contains(told), "{values}: {told}: {notes}");
        assert!(!notes.contains(left_out), "{values}: {left_out}: {notes}");
    }
}
