//! The alerts and the dashboard as files: the rules fire when they should and not before, by Prometheus' own tool; they name
//! metrics that the operator has, and headings that the runbook has.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use appcode_operator::metrics::table::rows;
use control_plane::Prometheus;
use serde_json::{Value, json};

use crate::helm::{chart, render};

/// The file with the alerts.
pub fn file() -> PathBuf {
    chart().join("files/alerts.yaml")
}

/// Each rule of it.
pub fn rules() -> Vec<Value> {
    let text = std::fs::read_to_string(file()).unwrap();
    let file: Value = serde_saphyr::from_str(&text).unwrap();
    let groups = file["groups"].as_array().unwrap().iter();
    groups
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

/// Title of the panel and query, for each query of the dashboard.
pub fn dashboard() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(chart().join("files/dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            queries.push((text(&panel["title"]), text(&target["expr"])));
        }
    }
    queries
}

/// The metrics that a query names: words with one of the prefixes of ours.
pub fn metrics_of(query: &str) -> BTreeSet<&str> {
    let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words
        .filter(|word| word.starts_with("appcode_") || word.starts_with("process_"))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_alert_fires_when_it_should_and_not_before() {
    let promtool = Prometheus::obtain().await.unwrap().promtool;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/alerts");
    let files = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let files: Vec<PathBuf> = files.collect();
    let output = Command::new(promtool)
        .args(["test", "rules"])
        .args(&files)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");

    let (mut firing, mut silent) = (BTreeSet::new(), BTreeSet::new());
    for file in files {
        let test: Value = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        for test in test["tests"].as_array().unwrap() {
            for case in test["alert_rule_test"].as_array().unwrap() {
                let is_firing = case["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
                let names = if is_firing { &mut firing } else { &mut silent };
                names.insert(case["alertname"].as_str().unwrap().to_owned());
            }
        }
    }
    let names: BTreeSet<String> = rules()
        .iter()
        .map(|rule| rule["alert"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((&firing, &silent), (&names, &names));
}

#[test]
fn each_alert_tells_what_to_do_and_links_to_a_heading_of_the_runbook() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbook.md")).unwrap();
    let headings: BTreeSet<String> = page
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"))
        .collect();
    for rule in rules() {
        assert!(
            ["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()),
            "{rule}"
        );
        for annotation in ["summary", "description"] {
            assert!(
                rule["annotations"][annotation]
                    .as_str()
                    .is_some_and(|text| text.len() > 20),
                "{rule}"
            );
        }
        let link = rule["annotations"]["runbook_url"].as_str().unwrap();
        let anchor = link.strip_prefix("docs/runbook.md#").unwrap();
        assert_eq!(anchor, rule["alert"].as_str().unwrap().to_lowercase());
        assert!(headings.contains(anchor), "{link}");
    }
}

#[test]
fn queries_name_metrics_that_the_operator_has() {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for row in rows() {
        if row.kind == "histogram" {
            names.extend(["_bucket", "_count", "_sum"].map(|suffix| format!("{}{suffix}", row.name)));
        } else {
            names.insert(row.name);
        }
    }
    let alerts = rules()
        .into_iter()
        .map(|rule| rule["expr"].as_str().unwrap().to_owned());
    let queries: Vec<String> = alerts.chain(dashboard().into_iter().map(|(_, query)| query)).collect();
    for query in &queries {
        assert!(!metrics_of(query).is_empty(), "{query}");
        for name in metrics_of(query) {
            assert!(names.contains(name), "{name} in {query}");
        }
    }
}

#[test]
fn the_chart_brings_alerts_and_dashboard_along_where_they_are_asked_for() {
    let rendered = render(&[
        json!({}),
        json!({"alerts": {"enabled": true, "labels": {"release": "prometheus"}}, "dashboard": {"enabled": true}}),
        json!({"alerts": {"enabled": true, "runbookBaseUrl": "https://git.example/docs/"}}),
    ]);
    let find = |objects: &[Value], kind: &str| {
        // The filter of the log has a ConfigMap too.
        let is_log = |object: &Value| {
            object["metadata"]["name"]
                .as_str()
                .is_some_and(|name| name.ends_with("-log"))
        };
        let found = objects.iter().find(|object| object["kind"] == kind && !is_log(object));
        found.cloned()
    };
    assert!(
        find(&rendered[0], "PrometheusRule")
            .or(find(&rendered[0], "ConfigMap"))
            .is_none()
    );

    let rule = find(&rendered[1], "PrometheusRule").unwrap();
    assert_eq!(rule["metadata"]["labels"]["release"], "prometheus");
    assert_eq!(rule["spec"]["groups"][0]["rules"], json!(rules()));
    let map = find(&rendered[1], "ConfigMap").unwrap();
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    let shipped = std::fs::read_to_string(chart().join("files/dashboard.json")).unwrap();
    assert_eq!(
        map["data"]["appcode-operator.json"].as_str().map(str::trim),
        Some(shipped.trim())
    );

    let rule = find(&rendered[2], "PrometheusRule").unwrap();
    let link = &rule["spec"]["groups"][0]["rules"][0]["annotations"]["runbook_url"];
    assert_eq!(link, "https://git.example/docs/runbook.md#appcodeunsaved");
}
