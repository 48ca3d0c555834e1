//! Where the lines are, and what is said on their other side.
#![allow(
    clippy::items_after_statements,
    clippy::too_many_lines,
    clippy::type_complexity,
    clippy::unnecessary_wraps,
    reason = "a table is as long as its cases, and what makes and what tells one stands beside it"
)]

use serde_json::{Value, json};

use super::tests::{problems, resource, rules};
use super::*;
use crate::remedy::Kubectl;

fn allowing(pairs: &[&str]) -> Rules {
    Rules {
        allowances: pairs.iter().map(|pair| pair.parse().unwrap()).collect(),
        ..rules()
    }
}

#[test]
fn the_operators_own_identity_is_for_pairs_of_namespace_and_app() {
    let own = json!({"credentialsRef": null});
    for (pairs, is_allowed) in [
        (&["team=app"] as &[&str], true),
        (&["other=app", "team=app"], true),
        (&["other=app"], false),
        (&["team=other"], false),
        (&["team=other", "other=app"], false),
        (&[], false),
    ] {
        let found = validate(&resource(&own), &allowing(pairs));
        assert_eq!(found.is_ok(), is_allowed, "{pairs:?}");
        if let Err(found) = found {
            assert_eq!((found.len(), found[0].reason), (1, Reason::IdentityNotAllowed));
            assert!(
                found[0].message.contains("--allow-default-identity=team=app"),
                "{found:?}"
            );
        }
    }
    assert!(validate(&resource(&json!({})), &rules()).unwrap().credentials.is_some());
    assert!(
        validate(&resource(&own), &allowing(&["team=app"]))
            .unwrap()
            .credentials
            .is_none()
    );
    // What is no id may be a secret, and no flag is told for it.
    let found = problems(
        &json!({"credentialsRef": null, "appId": "a/secret"}),
        &allowing(&["team=app"]),
    );
    assert!(
        found.len() == 2
            && !found
                .iter()
                .any(|message| message.contains("secret/") || message.contains("--allow"))
    );
}

#[test]
fn a_text_is_as_long_as_its_rule_says() {
    for (field, length, words) in [
        (
            "appName",
            256,
            Some("spec.appName must have 1 to 255 characters; leave it out if there is nothing to say"),
        ),
        ("appName", 255, None),
        ("appName", 1, None),
        (
            "appName",
            0,
            Some("spec.appName must have 1 to 255 characters; leave it out if there is nothing to say"),
        ),
        (
            "appRemark",
            201,
            Some("spec.appRemark must have at most 200 characters"),
        ),
        ("appRemark", 200, None),
        ("appRemark", 0, None),
        (
            "rotationTrigger",
            257,
            Some("spec.rotationTrigger must have 1 to 256 characters; leave it out if there is nothing to say"),
        ),
        ("rotationTrigger", 256, None),
    ] {
        let found = problems(&json!({field: "x".repeat(length)}), &rules());
        assert_eq!(found, words.into_iter().collect::<Vec<_>>(), "{field} {length}");
    }
}

#[test]
fn the_history_is_1_to_50_long() {
    for (limit, is_good) in [(-1, false), (0, false), (1, true), (50, true), (51, false)] {
        let found = validate(&resource(&json!({"historyLimit": limit})), &rules());
        assert_eq!(
            found.map(|valid| valid.history_limit).ok(),
            is_good.then(|| usize::try_from(limit).unwrap())
        );
    }
}

#[test]
fn what_a_command_does_besides_is_told_with_it() {
    let kubectl = Kubectl {
        namespace: "shop",
        name: "checkout",
    };
    let told = |spec: Value| {
        let problem = Problem::sum_up(&validate(&resource(&spec), &rules()).unwrap_err());
        (problem.message.clone(), problem.commands(kubectl))
    };
    let never = json!({"cron": "0 0 31 2 *", "duration": "1h"});
    let (message, commands) = told(json!({"schedule": {"interval": "24h", "windows": [never]}}));
    assert!(message.contains("drops the windows that are right too"), "{message}");
    assert_eq!(commands.first(), Some(&kubectl.edit()));
    assert!(
        commands.iter().any(|it| it.contains(r#""windows":null"#)),
        "{commands:?}"
    );
    let (message, commands) = told(json!({"target": {"template": {"data": {"a": "{{ nothing }}"}}}}));
    assert!(message.contains("the labels, annotations and type"), "{message}");
    assert_eq!(commands.first(), Some(&kubectl.edit()));
    assert!(
        commands.iter().any(|it| it.contains(r#""template":null"#)),
        "{commands:?}"
    );
    let (message, _) = told(json!({"historyLimit": 0}));
    assert!(!message.contains("null"), "{message}");
}

#[test]
fn what_the_author_can_mend_is_the_reason_that_is_told() {
    let problem = |reason| Problem {
        reason,
        message: reason.as_str().to_owned(),
        remedy: Remedy::Edit,
    };
    let told = |reasons: &[Reason]| {
        let problems: Vec<_> = reasons.iter().copied().map(problem).collect();
        Problem::sum_up(&problems)
    };
    use Reason::{EndpointNotAllowed, IdentityNotAllowed, InvalidSpec, ScheduleNeverFires};
    assert_eq!(
        told(&[EndpointNotAllowed, ScheduleNeverFires]).reason,
        ScheduleNeverFires
    );
    assert_eq!(
        told(&[IdentityNotAllowed, EndpointNotAllowed]).reason,
        IdentityNotAllowed
    );
    assert_eq!(told(&[]).reason, InvalidSpec);
    assert_eq!(
        told(&[EndpointNotAllowed, InvalidSpec]).message,
        "EndpointNotAllowed; InvalidSpec"
    );
}

#[test]
fn plain_text_is_refused_only_where_it_is_forbidden() {
    let forbid = Rules {
        forbid_plaintext: true,
        ..rules()
    };
    let with = |code: &str| json!({ "statusCode": code });
    assert_eq!(problems(&with("Plaintext"), &forbid).len(), 1);
    assert!(problems(&with("Fingerprint"), &forbid).is_empty() && problems(&json!({}), &forbid).is_empty());
    assert!(validate(&resource(&with("Plaintext")), &rules()).unwrap().plaintext);
    assert!(!validate(&resource(&with("Fingerprint")), &rules()).unwrap().plaintext);
}

#[test]
fn one_seed_at_most_is_given() {
    let source = json!({"secretKeyRef": {"name": "s", "key": "k"}});
    let found = problems(&json!({"appCode": "code", "appCodeFrom": source}), &rules());
    assert_eq!(found, [format!("spec: {ONE_SEED}")]);
    let inline = validate(&resource(&json!({"appCode": "code"})), &rules()).unwrap();
    assert!(matches!(inline.seed, Seed::Inline(_)));
}

#[test]
fn a_schedule_may_use_the_budget_up_and_no_more() {
    let asks = |schedule: serde_json::Value, budget| {
        let rules = Rules {
            daily_budget: budget,
            ..rules()
        };
        problems(&json!({ "schedule": schedule }), &rules)
    };
    for (schedule, per_day) in [
        (json!({"interval": "4h"}), 6),
        (json!({"interval": "5h"}), 4),
        (json!({"cron": "0,30 */6 * * *"}), 8),
        (json!({"cron": "0,20,40 3,4 * * *"}), 6),
    ] {
        assert!(asks(schedule.clone(), per_day).is_empty(), "{schedule}");
        let found = asks(schedule.clone(), per_day - 1);
        let told = format!(
            "asks for {per_day} rotations a day; the operator allows {}",
            per_day - 1
        );
        assert!(found.len() == 1 && found[0].contains(&told), "{found:?}");
    }
}

#[test]
fn a_schedule_keeps_the_minimum_interval_to_the_second() {
    for (schedule, is_good) in [
        (json!({"interval": "600s"}), true),
        (json!({"interval": "599s"}), false),
        (json!({"cron": "0,10 3 * * *"}), true),
        (json!({"cron": "0,9 3 * * *"}), false),
    ] {
        assert_eq!(
            problems(&json!({ "schedule": schedule }), &rules()).is_empty(),
            is_good,
            "{schedule}"
        );
    }
}

#[test]
fn jitter_is_shorter_than_the_interval() {
    for (schedule, expected) in [
        (json!({"interval": "1h", "jitter": "59m59s"}), 0),
        (json!({"interval": "1h", "jitter": "1h"}), 1),
        (json!({"interval": "1h", "jitter": "2h"}), 1),
        (json!({"cron": "0 * * * *", "jitter": "59m59s"}), 0),
        (json!({"cron": "0 * * * *", "jitter": "1h"}), 1),
        // A jitter that cannot be read is told once.
        (json!({"interval": "1h", "jitter": "x"}), 1),
        (json!({"cron": "0 * * * *", "jitter": "x"}), 1),
    ] {
        assert_eq!(
            problems(&json!({ "schedule": schedule }), &rules()).len(),
            expected,
            "{schedule}"
        );
    }
}

#[test]
fn eight_windows_of_a_minute_to_a_week_are_taken() {
    let windows = |number: usize, duration: &str| {
        let window = json!({"cron": "@daily", "duration": duration});
        let spec = json!({"schedule": {"interval": "24h", "windows": vec![window; number]}});
        (
            problems(&spec, &rules()).len(),
            validate(&resource(&spec), &rules()).ok(),
        )
    };
    for (number, duration, found) in [
        (8, "1h", 0),
        (9, "1h", 1),
        (1, "1m", 0),
        (1, "59s", 1),
        (1, "168h", 0),
        (1, "168h1s", 1),
    ] {
        assert_eq!(windows(number, duration).0, found, "{number} {duration}");
    }
    let valid = windows(8, "1h").1.unwrap();
    assert_eq!(valid.schedule.unwrap().windows.len(), 8);
}

#[test]
fn the_grace_period_is_at_most_720_hours_and_an_hour_where_nothing_is_said() {
    let grace = |text: &str| {
        let spec = json!({"strategy": "Overlap", "overlap": {"gracePeriod": text}});
        validate(&resource(&spec), &rules()).map(|valid| valid.grace).ok()
    };
    assert_eq!(grace("0s"), Some(SignedDuration::ZERO));
    assert_eq!(grace("720h"), Some(SignedDuration::from_hours(720)));
    assert_eq!(grace("720h1s"), None);
    assert_eq!(grace("x"), None);
    let valid = validate(&resource(&json!({})), &rules()).unwrap();
    assert_eq!(
        (valid.grace, valid.waits_for_rollout),
        (SignedDuration::from_hours(1), true)
    );
    assert_eq!(valid.strategy, Strategy::Reset);
    let spec = json!({"strategy": "Overlap", "overlap": {"waitForRollout": false}});
    let valid = validate(&resource(&spec), &rules()).unwrap();
    assert_eq!((valid.strategy, valid.waits_for_rollout), (Strategy::Overlap, false));
}

#[test]
fn a_restart_is_delayed_by_ten_minutes_at_most() {
    for (delay, seconds) in [("0s", Some(0)), ("10m", Some(600)), ("601s", None), ("x", None)] {
        let found = validate(&resource(&json!({ "restartDelay": delay })), &rules());
        assert_eq!(
            found.map(|valid| valid.restart_delay.as_secs()).ok(),
            seconds,
            "{delay}"
        );
    }
}

#[test]
fn what_is_asked_of_the_secret_fits_together() {
    for (target, words) in [
        (json!({"key": "a", "previousKey": "a"}), Some(PREVIOUS_IS_ANOTHER_KEY)),
        (json!({"key": "a", "previousKey": "b"}), None),
        (
            json!({"key": "a", "template": {"data": {"a": ""}}}),
            Some(KEY_NOT_TEMPLATE),
        ),
        (
            json!({"previousKey": "b", "template": {"data": {"b": ""}}}),
            Some(KEY_NOT_TEMPLATE),
        ),
        (json!({"previousKey": "b", "template": {"data": {"c": ""}}}), None),
        (
            json!({"template": {"type": "kubernetes.io/basic-auth"}}),
            Some(BASIC_AUTH_KEYS),
        ),
        (
            json!({"key": "password", "template": {"type": "kubernetes.io/basic-auth"}}),
            None,
        ),
        (
            json!({"template": {"type": "kubernetes.io/basic-auth", "data": {"username": ""}}}),
            None,
        ),
        (json!({"template": {"type": "Opaque"}}), None),
        (
            json!({"deletionPolicy": "Delete", "creationPolicy": "Adopt"}),
            Some(DELETE_NEEDS_CREATE),
        ),
        (json!({"deletionPolicy": "Delete"}), None),
        (json!({"deletionPolicy": "Retain", "creationPolicy": "Merge"}), None),
    ] {
        let expected: Vec<_> = words.map(|words| format!("spec.target: {words}")).into_iter().collect();
        assert_eq!(problems(&json!({ "target": target }), &rules()), expected, "{target}");
    }
    let asked = json!({"target": {"previousKey": "b", "creationPolicy": "Merge"}});
    let layout = validate(&resource(&asked), &rules()).unwrap().layout;
    assert_eq!(
        (layout.previous_key.as_deref(), layout.creation),
        (Some("b"), CreationPolicy::Merge)
    );
    let broken = json!({"target": {"template": {"data": {"c": "{{"}}}});
    let found = validate(&resource(&broken), &rules()).err().unwrap();
    assert_eq!((found.len(), found[0].reason), (1, Reason::TemplateInvalid));
}
