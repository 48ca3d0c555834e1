//! The CRD: that the file is the generated one, that it is well made, and that its rules are the operator's rules.

mod schema;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use appcode_operator::api::AppCodeRotation;
use appcode_operator::endpoint::{Endpoint, EndpointRules};
use appcode_operator::validate::{Rules, validate};
use appcode_operator::verification::{VerificationHost, VerificationHosts};
use jiff::SignedDuration;
use kube::CustomResourceExt;
use kube::core::cel::{Validator, validate_cel};
use pretty_assertions::assert_eq;
use proptest::prelude::*;
use serde_json::{Value, json};

/// The version of the CRD that is served, as JSON.
fn version() -> Value {
    let crd = serde_json::to_value(AppCodeRotation::crd()).unwrap();
    assert_eq!(crd["spec"]["versions"].as_array().unwrap().len(), 1);
    crd["spec"]["versions"][0].clone()
}

/// The whole schema, made once: the property below asks for it hundreds of times.
fn root_schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(|| version()["schema"]["openAPIV3Schema"].clone());
    &SCHEMA
}

/// Settings under which nothing but the CRD's own rules is left, except what a pattern cannot say of a URL.
pub fn lenient_rules() -> Rules {
    let pair = Endpoint::parse_pair("https://modelarts.example.com=https://iam.example.com").unwrap();
    Rules {
        endpoints: EndpointRules {
            allowed: vec![pair],
            allow_insecure_loopback: false,
        },
        verification_hosts: VerificationHosts {
            allowed: vec![VerificationHost::parse("inference.example.com").unwrap()],
            allow_insecure_loopback: false,
        },
        minimum_interval: SignedDuration::ZERO,
        daily_budget: usize::MAX,
        forbid_plaintext: false,
        allowances: Vec::new(),
    }
}

/// A resource with a valid spec; `changes` are merged over its fields and null removes one.
fn resource(changes: &Value) -> Value {
    let mut spec = json!({
        "region": "cn-north-4", "projectId": "project", "appId": "app", "credentialsRef": {"name": "credentials"},
    });
    for (field, value) in changes.as_object().unwrap() {
        if value.is_null() {
            spec.as_object_mut().unwrap().remove(field);
        } else {
            spec[field] = value.clone();
        }
    }
    json!({
        "apiVersion": "appcode.dev/v1alpha1", "kind": "AppCodeRotation", "metadata": {"name": "rotation"}, "spec": spec,
    })
}

/// What an API server that knows CEL says against `resource`.
pub fn crd_refusals(resource: &Value) -> Vec<String> {
    let found = schema::refusals(&root_schema()["properties"]["spec"], &resource["spec"], "spec");
    if !found.is_empty() {
        return found; // as the API server: CEL rules are not tried on an object that breaks the schema
    }
    let broken = Validator::new()
        .validate(root_schema(), resource, None)
        .err()
        .into_iter()
        .flatten();
    broken.map(|error| error.message).collect()
}

/// What the operator says against `resource`.
fn operator_refusals(resource: &Value) -> Vec<String> {
    match serde_json::from_value::<AppCodeRotation>(resource.clone()) {
        Ok(typed) => {
            let problems = validate(&typed, &lenient_rules()).err().unwrap_or_default();
            problems.into_iter().map(|problem| problem.message).collect()
        }
        Err(error) => vec![error.to_string()],
    }
}

#[test]
fn the_file_is_what_the_types_say() {
    let printed = Command::new(env!("CARGO_BIN_EXE_crdgen")).output().unwrap();
    assert!(printed.status.success());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds/appcoderotations.yaml");
    let file = std::fs::read_to_string(path).unwrap();
    assert_eq!(
        String::from_utf8(printed.stdout).unwrap(),
        file,
        "crds/appcoderotations.yaml is out of date: run `make generate` and commit the result"
    );
}

#[test]
fn the_file_reads_back_as_the_crd() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds/appcoderotations.yaml");
    let file: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(file, serde_json::to_value(AppCodeRotation::crd()).unwrap());
}

#[test]
fn people_find_the_resource_by_its_names_and_columns() {
    let crd = serde_json::to_value(AppCodeRotation::crd()).unwrap();
    let names = &crd["spec"]["names"];
    assert_eq!(names["shortNames"], json!(["acr"]));
    assert_eq!(names["categories"], json!(["appcode"]));
    assert_eq!(crd["spec"]["scope"], "Namespaced");
    let version = version();
    assert_eq!(version["name"], "v1alpha1");
    assert_eq!(version["subresources"], json!({"status": {}}));
    let columns: Vec<(&str, bool)> = version["additionalPrinterColumns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| (column["name"].as_str().unwrap(), column.get("priority").is_some()))
        .collect();
    let narrow = ["App", "Phase", "Ready", "Last Rotation", "Next Rotation", "Age"];
    let wide = ["Strategy", "Fingerprint", "Secret", "Message"];
    let expected: Vec<(&str, bool)> = narrow
        .map(|name| (name, false))
        .into_iter()
        .chain(wide.map(|name| (name, true)))
        .collect();
    assert_eq!(columns, expected);
}

#[test]
fn every_field_is_described() {
    schema::walk(root_schema(), "", &mut |path, keywords| {
        // The description of a list is that of its items where these are plain texts.
        let is_plain_item = path.ends_with("[]") && keywords["type"] == "string";
        let text = keywords.get("description").and_then(Value::as_str).unwrap_or_default();
        assert!(is_plain_item || text.len() > 10, "{path} says {text:?}");
    });
}

#[test]
fn every_choice_is_explained_at_its_field() {
    schema::walk(root_schema(), "", &mut |path, keywords| {
        let text = keywords.get("description").and_then(Value::as_str).unwrap_or_default();
        for choice in keywords.get("enum").and_then(Value::as_array).into_iter().flatten() {
            let word = format!("`{}`", choice.as_str().unwrap());
            assert!(text.contains(&word), "{path} does not explain {word}");
        }
    });
}

#[test]
fn no_reference_leaves_the_namespace() {
    schema::walk(&root_schema()["properties"]["spec"], "spec", &mut |path, keywords| {
        for (name, _) in keywords
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            assert!(!name.to_lowercase().contains("namespace"), "{path}.{name}");
        }
    });
}

#[test]
fn every_text_of_the_spec_has_a_longest_length() {
    schema::walk(&root_schema()["properties"]["spec"], "spec", &mut |path, keywords| {
        let is_open =
            keywords["type"] == "string" && !keywords.contains_key("maxLength") && !keywords.contains_key("enum");
        assert!(!is_open, "{path}");
    });
}

/// What servers since 1.16 ask of a schema; anything else would make them ignore or refuse it.
#[test]
fn the_schema_is_structural() {
    let known = [
        "type",
        "description",
        "title",
        "format",
        "properties",
        "required",
        "items",
        "minLength",
        "maxLength",
        "maxItems",
        "additionalProperties",
        "maxProperties",
        "minimum",
        "maximum",
        "enum",
        "pattern",
        "x-kubernetes-validations",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
    ];
    schema::walk(root_schema(), "", &mut |path, keywords| {
        assert!(keywords["type"].is_string(), "{path} has no single type");
        for keyword in keywords.keys() {
            let is_status = path == ".status" && keyword == "nullable";
            assert!(is_status || known.contains(&keyword.as_str()), "{path} has {keyword}");
        }
    });
}

#[test]
fn conditions_are_a_map_by_type() {
    let conditions = &root_schema()["properties"]["status"]["properties"]["conditions"];
    assert_eq!(conditions["x-kubernetes-list-type"], "map");
    assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
}

/// So that two who apply their own parts name their own workloads, and none stands there twice.
#[test]
fn restart_targets_are_a_map_by_kind_and_name() {
    let targets = &root_schema()["properties"]["spec"]["properties"]["restartTargets"];
    assert_eq!(targets["x-kubernetes-list-type"], "map");
    assert_eq!(targets["x-kubernetes-list-map-keys"], json!(["kind", "name"]));
}

/// A CEL rule by its message: specs that break it and nothing else, and specs close by that do not.
type CelCase = (&'static str, Vec<Value>, Vec<Value>);

fn cel_cases_of_handover() -> Vec<CelCase> {
    let grace = |text: &str| json!({"overlap": {"gracePeriod": text}});
    vec![
        (
            "restartDelay must be at most 10m",
            vec![json!({"restartDelay": "601s"}), json!({"restartDelay": "1h"})],
            vec![json!({"restartDelay": "0h9m60s"}), json!({"restartDelay": "0s"})],
        ),
        (
            "gracePeriod must be at most 720h",
            vec![grace("721h"), grace("720h1s")],
            vec![grace("720h"), grace("0s"), json!({"overlap": {}})],
        ),
    ]
}

fn verification_cases() -> Vec<CelCase> {
    vec![
        (
            "expectStatus must not be 401, 403 or 429: these are how a gateway refuses a code or puts a caller off",
            [401, 403, 429]
                .map(|status| verification(&json!({"expectStatus": status})))
                .to_vec(),
            [200, 302, 400, 404, 499]
                .map(|status| verification(&json!({"expectStatus": status})))
                .to_vec(),
        ),
        (
            "timeout must be 1s to 60s",
            ["0s", "61s", "1h"]
                .map(|time| verification(&json!({"timeout": time})))
                .to_vec(),
            ["1s", "1m", "0h0m60s"]
                .map(|time| verification(&json!({"timeout": time})))
                .to_vec(),
        ),
    ]
}

/// A spec with a good verification over which `changes` are merged.
fn verification(changes: &Value) -> Value {
    let mut fields = json!({"url": "https://inference.example.com/health", "method": "GET"});
    fields
        .as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    json!({ "verification": fields })
}

/// Those about the target Secret.
fn target_cases() -> Vec<CelCase> {
    vec![
        (
            "previousKey must differ from key: the one holds the code before, the other the code",
            vec![
                json!({"target": {"previousKey": "appCode"}}),
                json!({"target": {"key": "a", "previousKey": "a"}}),
            ],
            vec![
                json!({"target": {"previousKey": "previous"}}),
                json!({"target": {"key": "a", "previousKey": "appCode"}}),
            ],
        ),
        (
            "template.data must name neither key nor previousKey: these always hold the plain codes",
            vec![
                json!({"target": {"template": {"data": {"appCode": "x"}}}}),
                json!({"target": {"key": "a", "template": {"data": {"a": "x"}}}}),
                json!({"target": {"previousKey": "a", "template": {"data": {"a": "x"}}}}),
            ],
            vec![
                json!({"target": {"key": "a", "template": {"data": {"appCode": "x"}}}}),
                json!({"target": {"previousKey": "a", "template": {"labels": {"a": "x", "appCode": "x"}}}}),
                json!({"target": {"template": {"data": {}}}}),
            ],
        ),
        (
            "a Secret of type kubernetes.io/basic-auth needs username or password: name one in template.data, or as key",
            vec![
                json!({"target": {"template": {"type": "kubernetes.io/basic-auth"}}}),
                json!({"target": {"previousKey": "password", "template": {"type": "kubernetes.io/basic-auth", "data": {"a": "x"}}}}),
            ],
            vec![
                json!({"target": {"key": "password", "template": {"type": "kubernetes.io/basic-auth"}}}),
                json!({"target": {"template": {"type": "kubernetes.io/basic-auth", "data": {"username": "x"}}}}),
                json!({"target": {"template": {"type": "Opaque"}}}),
            ],
        ),
        (
            "deletionPolicy Delete needs creationPolicy Create: a Secret that others made is never deleted with this resource",
            vec![
                json!({"target": {"deletionPolicy": "Delete", "creationPolicy": "Adopt"}}),
                json!({"target": {"deletionPolicy": "Delete", "creationPolicy": "Merge"}}),
            ],
            vec![
                json!({"target": {"deletionPolicy": "Delete"}}),
                json!({"target": {"deletionPolicy": "Delete", "creationPolicy": "Create"}}),
                json!({"target": {"deletionPolicy": "Retain", "creationPolicy": "Merge"}}),
            ],
        ),
    ]
}

/// All others.
fn cel_cases() -> Vec<CelCase> {
    let seed_in = |name: &str| json!({"secretKeyRef": {"name": name, "key": "k"}});
    let window =
        |duration: &str| json!({"cron": "0 22 * * MON-FRI", "duration": duration, "timeZone": "Asia/Shanghai"});
    vec![
        (
            "set exactly one of region and endpoint",
            vec![
                json!({"region": null}),
                json!({"endpoint": "https://modelarts.example.com"}),
            ],
            vec![
                json!({}),
                json!({"region": null, "endpoint": "https://modelarts.example.com"}),
            ],
        ),
        (
            "set at most one of appCode and appCodeFrom",
            vec![json!({"appCode": "code", "appCodeFrom": seed_in("seed")})],
            vec![
                json!({"appCode": "code"}),
                json!({"appCodeFrom": seed_in("seed")}),
                json!({}),
            ],
        ),
        (
            "appCodeFrom must not name the target Secret: the operator writes there, so the seed would never be seen to change",
            vec![
                json!({"appCodeFrom": seed_in("rotation")}),
                json!({"appCodeFrom": seed_in("rotation"), "target": {"key": "k"}}),
                json!({"appCodeFrom": seed_in("mine"), "target": {"name": "mine"}}),
            ],
            vec![
                json!({"appCodeFrom": seed_in("rotation"), "target": {"name": "mine"}}),
                json!({"appCodeFrom": seed_in("mine"), "target": {"key": "mine"}}),
            ],
        ),
        (
            "credentialsRef must not name the target Secret: the operator writes codes there",
            vec![
                json!({"credentialsRef": {"name": "rotation"}}),
                json!({"credentialsRef": {"name": "mine"}, "target": {"name": "mine"}}),
            ],
            vec![json!({"credentialsRef": {"name": "rotation"}, "target": {"name": "mine"}})],
        ),
        (
            "interval must be longer than zero",
            vec![
                json!({"schedule": {"interval": "0s"}}),
                json!({"schedule": {"interval": "0h0m0s"}}),
            ],
            vec![
                json!({"schedule": {"interval": "1s"}}),
                json!({"schedule": {"interval": "99999h9999999m9999999s"}}),
            ],
        ),
        (
            "jitter must be shorter than the interval",
            vec![
                json!({"schedule": {"interval": "1h", "jitter": "60m"}}),
                json!({"schedule": {"interval": "1s", "jitter": "99999h9999999m9999999s"}}),
            ],
            vec![
                json!({"schedule": {"interval": "1h", "jitter": "59m59s"}}),
                json!({"schedule": {"interval": "1s", "jitter": "0s"}}),
                json!({"schedule": {"cron": "@daily", "jitter": "23h59m59s"}}),
            ],
        ),
        (
            "set exactly one of cron and interval: cron for times of the calendar, interval for a time after the last rotation",
            vec![
                json!({"schedule": {}}),
                json!({"schedule": {"cron": "@daily", "interval": "24h"}}),
                json!({"schedule": {"jitter": "1h", "windows": [{"cron": "@daily", "duration": "1h"}]}}),
            ],
            vec![
                json!({"schedule": {"cron": "0 3 * * SUN"}}),
                json!({"schedule": {"interval": "24h", "windows": []}}),
            ],
        ),
        (
            "timeZone needs cron: an interval has no time zone, and each window has its own",
            vec![json!({"schedule": {"interval": "24h", "timeZone": "Europe/Berlin"}})],
            vec![
                json!({"schedule": {"cron": "@daily", "timeZone": "America/Argentina/Buenos_Aires"}}),
                json!({"schedule": {"interval": "24h", "windows": [window("1h")]}}),
            ],
        ),
        (
            "duration must be 1m to 168h",
            vec![
                json!({"schedule": {"interval": "24h", "windows": [window("59s")]}}),
                json!({"schedule": {"cron": "@daily", "windows": [window("168h"), window("168h1s")]}}),
            ],
            vec![json!({"schedule": {"cron": "@daily", "windows": vec![window("60s"); 8]}})],
        ),
    ]
}

#[test]
fn every_rule_refuses_and_accepts_as_the_operator_does() {
    let mut tried = BTreeSet::new();
    let all = cel_cases().into_iter().chain(cel_cases_of_handover());
    for (message, refused, accepted) in all.chain(verification_cases()).chain(target_cases()) {
        tried.insert(message.to_owned());
        for changes in refused {
            let resource = resource(&changes);
            let typed: AppCodeRotation = serde_json::from_value(resource.clone()).unwrap();
            let broken = validate_cel(&typed).unwrap_err();
            assert!(broken.len() == 1 && broken[0].message == message, "{changes}: {broken}");
            assert_eq!(crd_refusals(&resource), [message], "{changes}");
            let operator = operator_refusals(&resource);
            assert!(
                operator.len() == 1 && operator[0].ends_with(message),
                "{changes}: {operator:?}"
            );
        }
        for changes in accepted {
            let resource = resource(&changes);
            assert_eq!(
                (crd_refusals(&resource), operator_refusals(&resource)),
                (vec![], vec![]),
                "{changes}"
            );
        }
    }
    let mut present = BTreeSet::new();
    schema::walk(root_schema(), "", &mut |_, keywords| {
        for rule in keywords
            .get("x-kubernetes-validations")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            present.insert(rule["message"].as_str().unwrap().to_owned());
        }
    });
    assert_eq!(tried, present, "a rule without a case, or a case without its rule");
}

fn bad_fields() -> Vec<Value> {
    vec![
        json!({"region": ""}),
        json!({"region": "moon"}),
        json!({"region": "cn-north-4.evil"}),
        json!({"region": null, "endpoint": ""}),
        json!({"region": null, "endpoint": "https://a/b"}),
        json!({"region": null, "endpoint": "https://u@modelarts.example.com"}),
        json!({"projectId": ""}),
        json!({"projectId": "a/b"}),
        json!({"projectId": "a".repeat(65)}),
        json!({"projectId": null}),
        json!({"appId": ""}),
        json!({"appId": ".."}),
        json!({"appId": "a%2fb"}),
        json!({"appId": "a".repeat(129)}),
        json!({"workspaceId": ""}),
        json!({"workspaceId": "a_b"}),
        json!({"appName": ""}),
        json!({"appName": "é".repeat(256)}),
        json!({"appRemark": "x".repeat(201)}),
        json!({"appCode": ""}),
        json!({"appCode": "a*b"}),
        json!({"appCode": "a b"}),
        json!({"appCode": "a".repeat(513)}),
        json!({"appCode": 1}),
        json!({"appCodeFrom": {}}),
        json!({"appCodeFrom": {"secretKeyRef": {"name": "s"}}}),
        json!({"appCodeFrom": {"secretKeyRef": {"name": "s", "key": ".."}}}),
        json!({"appCodeFrom": {"secretKeyRef": {"name": "S", "key": "k"}}}),
        json!({"credentialsRef": {"name": "a..b"}}),
        json!({"schedule": {}}),
        json!({"schedule": {"interval": ""}}),
        json!({"schedule": {"interval": "1d"}}),
        json!({"schedule": {"interval": "1m1h"}}),
        json!({"schedule": {"interval": "-1h"}}),
        json!({"schedule": {"interval": "100000h"}}),
        json!({"schedule": {"interval": "1h", "jitter": "0"}}),
        json!({"schedule": {"interval": 60}}),
        json!({"schedule": {"cron": ""}}),
        json!({"schedule": {"cron": "@reboot"}}),
        json!({"schedule": {"cron": "0 0 3 * * *"}}),
        json!({"schedule": {"cron": "0 3 * *"}}),
        json!({"schedule": {"cron": "0 3 * * SUN#1"}}),
        json!({"schedule": {"cron": " 0 3 * * *"}}),
        json!({"schedule": {"cron": format!("{} 3 * * *", ["1"; 60].join(","))}}),
        json!({"schedule": {"cron": "@daily", "timeZone": ""}}),
        json!({"schedule": {"cron": "@daily", "timeZone": "../UTC"}}),
        json!({"schedule": {"cron": "@daily", "timeZone": "/UTC"}}),
        json!({"schedule": {"cron": "@daily", "jitter": "1d"}}),
        json!({"schedule": {"interval": "1h", "windows": {}}}),
        json!({"schedule": {"interval": "1h", "windows": [{}]}}),
        json!({"schedule": {"interval": "1h", "windows": [{"cron": "@daily"}]}}),
        json!({"schedule": {"interval": "1h", "windows": [{"duration": "1h"}]}}),
        json!({"schedule": {"interval": "1h", "windows": [{"cron": "daily", "duration": "1h"}]}}),
        json!({"schedule": {"interval": "1h", "windows": [{"cron": "@daily", "duration": "1d"}]}}),
        json!({"schedule": {"interval": "1h", "windows": [{"cron": "@daily", "duration": "1h", "timeZone": "a b"}]}}),
        json!({"schedule": {"interval": "1h", "windows": vec![json!({"cron": "@daily", "duration": "1h"}); 9]}}),
        json!({"initialRotation": "Never"}),
        json!({"rotationTrigger": ""}),
        json!({"rotationTrigger": "x".repeat(257)}),
        json!({"suspend": "true"}),
        json!({"target": {"name": "-"}}),
        json!({"target": {"name": "a".repeat(254)}}),
        json!({"target": {"key": "a b"}}),
        json!({"target": {"previousKey": "a b"}}),
        json!({"target": {"creationPolicy": "Replace"}}),
        json!({"target": {"deletionPolicy": "Orphan"}}),
        json!({"target": {"template": {"type": "kubernetes.io/tls"}}}),
        json!({"target": {"template": {"type": "kubernetes.io/service-account-token"}}}),
        json!({"target": {"template": {"data": {"a": "x".repeat(16385)}}}}),
        json!({"target": {"template": {"data": {"a": 1}}}}),
        json!({"target": {"template": {"labels": (0..33).map(|n| (format!("l{n}"), json!("x"))).collect::<serde_json::Map<_, _>>()}}}),
        json!({"statusCode": "plaintext"}),
        json!({"historyLimit": 0}),
        json!({"historyLimit": 51}),
        json!({"historyLimit": 1.5}),
    ]
}

fn bad_fields_of_handover() -> Vec<Value> {
    vec![
        json!({"strategy": "overlap"}),
        json!({"overlap": {"gracePeriod": ""}}),
        json!({"overlap": {"gracePeriod": "1d"}}),
        json!({"overlap": {"gracePeriod": 60}}),
        json!({"overlap": {"waitForRollout": "true"}}),
        json!({"restartTargets": {}}),
        json!({"restartTargets": [{}]}),
        json!({"restartTargets": [{"kind": "Deployment"}]}),
        json!({"restartTargets": [{"name": "web"}]}),
        json!({"restartTargets": [{"kind": "ReplicaSet", "name": "web"}]}),
        json!({"restartTargets": [{"kind": "Deployment", "name": "a/b"}]}),
        json!({"restartTargets": [{"kind": "Deployment", "name": "a".repeat(254)}]}),
        json!({"restartTargets": vec![json!({"kind": "Deployment", "name": "web"}); 2]}),
        json!({"restartTargets": (0..17).map(|at| json!({"kind": "Deployment", "name": format!("web{at}")})).collect::<Vec<_>>()}),
        json!({"restartDelay": ""}),
        json!({"restartDelay": "1d"}),
        json!({"restartDelay": 60}),
        json!({"verification": {}}),
        json!({"verification": "https://inference.example.com/"}),
        verification(&json!({"url": ""})),
        verification(&json!({"url": "inference.example.com"})),
        verification(&json!({"url": "ftp://inference.example.com/"})),
        verification(&json!({"url": "https://Inference.example.com/"})),
        verification(&json!({"url": "https://u@inference.example.com/"})),
        verification(&json!({"url": "https://inference.example.com/#x"})),
        verification(&json!({"url": "https://inference.example.com/a b"})),
        verification(&json!({"url": "https://inference.example.com/é"})),
        verification(&json!({"url": format!("https://inference.example.com/{}", "a".repeat(2048))})),
        verification(&json!({"method": "get"})),
        verification(&json!({"method": "PUT"})),
        verification(&json!({"expectStatus": "200"})),
        verification(&json!({"expectStatus": 199})),
        verification(&json!({"expectStatus": 500})),
        verification(&json!({"timeout": ""})),
        verification(&json!({"timeout": "10"})),
        verification(&json!({"timeout": "1.5s"})),
        verification(&json!({"timeout": "61s"})),
    ]
}

#[test]
fn each_bad_field_is_refused_by_both() {
    for changes in bad_fields().into_iter().chain(bad_fields_of_handover()) {
        let resource = resource(&changes);
        assert!(!crd_refusals(&resource).is_empty(), "the CRD takes {changes}");
        assert!(!operator_refusals(&resource).is_empty(), "the operator takes {changes}");
    }
}

/// A field's value: mostly what is nearly right, now and then anything.
fn text(nearly: &'static str) -> impl Strategy<Value = Option<Value>> {
    prop_oneof![
        3 => Just(None),
        5 => nearly.prop_map(|text| Some(json!(text))),
        1 => "(?s).{0,12}".prop_map(|text| Some(json!(text))),
    ]
}

fn object(fields: &[(&str, Option<Value>)]) -> Value {
    let present = fields
        .iter()
        .filter_map(|(name, value)| Some(((*name).to_owned(), value.clone()?)));
    Value::Object(present.collect())
}

const CRON: &str =
    "@(daily|weekly|monthly|hour)|[0-9]{1,2} [0-9*]{1,2} (\\*|[0-9L]) (\\*|[0-9]|JAN) (\\*|[0-7]|SUN)( \\*)?";

prop_compose! {
    fn spec()(
        region in text("[a-z]{2}-[a-z]{1,22}-[0-9]{1,4}|cn-north-4"),
        endpoint in text("https://modelarts.example.com/?|https://[a-z/@ ]{1,5}"),
        ids in [text("[a-z0-9-]{1,8}"), text("[A-Za-z0-9_-]{1,9}"), text("[a-z0-9-]{1,8}|[a-z]{60,68}")],
        words in [text(".{1,4}|é{250,260}"), text(".{0,4}|x{195,205}"), text(".{1,4}|x{250,260}")],
        code in text("[!-~]{1,6}|[a-z]{508,516}"),
        seed in [text("[a-c.-]{1,2}"), text("[.a/]{1,3}|a")],
        credentials in text("[a-c.-]{1,2}"),
        times in [text("([0-9]{0,6}h)?([0-9]{0,8}m)?([0-9]{0,8}s)?|[0-9]m"), text("[0-9]{1,2}[hms]")],
        target in [text("[a-c.-]{1,2}"), text("[.a/]{1,3}|appCode")],
        crons in [text(CRON), text(CRON)],
        zones in [text("Etc/UTC|[A-Z/a]{1,4}"), text("Asia/Shanghai|[a/.]{1,3}")],
        length in text("[0-9]{1,3}[hms]"),
        limit in prop::option::of(-2..60i64),
        workloads in prop::collection::vec((prop::sample::select(vec!["Deployment", "StatefulSet", "DaemonSet", "Job"]), "[ab]|[a-c.-]{1,2}"), 0..3),
        delay in text("[0-9]{1,3}[ms]|1?0m0?1?s"),
        tried in [text("https://inference.example.com(:443)?[/?#a-z.% ]{0,5}|https?://[a-z/@:]{1,5}"), text("[0-9]{1,2}[ms]")],
        status in prop::option::of(prop_oneof![195..505i64, Just(401), Just(429)]),
    ) -> Value {
        let seed = (seed[0].is_some() || seed[1].is_some())
            .then(|| json!({"secretKeyRef": object(&[("name", seed[0].clone()), ("key", seed[1].clone())])}));
        let window = object(&[("cron", crons[1].clone()), ("duration", length), ("timeZone", zones[1].clone())]);
        let windows = crons[1].is_some().then(|| json!([window]));
        let fields = [("interval", times[0].clone()), ("jitter", times[1].clone()), ("cron", crons[0].clone()),
            ("timeZone", zones[0].clone()), ("windows", windows)];
        let schedule = fields.iter().any(|(_, value)| value.is_some()).then(|| object(&fields));
        let verification = tried[0].is_some().then(|| {
            object(&[("url", tried[0].clone()), ("timeout", tried[1].clone()), ("expectStatus", status.map(|it| json!(it)))])
        });
        let region = region.or_else(|| endpoint.is_none().then(|| json!("cn-north-4")));
        resource(&object(&[
            ("region", region.or(Some(Value::Null))), ("endpoint", endpoint), ("projectId", ids[0].clone()),
            ("appId", ids[1].clone()), ("workspaceId", ids[2].clone()), ("appName", words[0].clone()),
            ("appRemark", words[1].clone()), ("rotationTrigger", words[2].clone()), ("appCode", code), ("appCodeFrom", seed),
            ("credentialsRef", credentials.map(|name| json!({"name": name}))), ("schedule", schedule),
            ("target", Some(object(&[("name", target[0].clone()), ("key", target[1].clone())]))),
            ("restartDelay", delay),
            ("restartTargets", (!workloads.is_empty()).then(|| workloads.iter().map(|(kind, name)| json!({"kind": kind, "name": name})).collect())),
            ("historyLimit", limit.map(|limit| json!(limit))), ("verification", verification),
        ]))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// One way always; the other way too, but for a URL, a cron and a time zone, of which the operator knows more than a
    /// pattern can say.
    #[test]
    fn the_crd_and_the_operator_refuse_the_same(resource in spec()) {
        let crd = crd_refusals(&resource);
        let mut operator = operator_refusals(&resource);
        prop_assert!(crd.is_empty() || !operator.is_empty(), "only the CRD refuses: {crd:?}");
        let is_beyond_patterns = |message: &String| {
            let field = message.split(' ').next().unwrap();
            let last = field.rsplit('.').next().unwrap();
            let is_calendar = field.starts_with("spec.schedule") && ["cron", "timeZone"].contains(&last);
            let is_url = field.starts_with("spec.endpoint") || field.starts_with("spec.verification.url");
            is_url || is_calendar || message.ends_with("two firings of cron")
        };
        operator.retain(|message| !is_beyond_patterns(message));
        prop_assert!(operator.is_empty() || !crd.is_empty(), "only the operator refuses: {operator:?}");
    }
}
