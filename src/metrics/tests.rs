use std::collections::BTreeMap;

use pretty_assertions::assert_eq;

use super::*;

fn encoded(format: Format) -> String {
    Metrics::default().encode(format, Levels::sample())
}

/// What follows the names of the families on lines of one kind.
fn lines<'a>(text: &'a str, kind: &str) -> BTreeMap<&'a str, &'a str> {
    let start = format!("# {kind} ");
    let lines = text.lines().filter_map(|line| line.strip_prefix(&start));
    lines.map(|line| line.split_once(' ').unwrap()).collect()
}

#[test]
fn every_family_is_described_and_has_a_sample_from_the_start() {
    let text = encoded(Format::OpenMetrics);
    let (kinds, helps, units) = (lines(&text, "TYPE"), lines(&text, "HELP"), lines(&text, "UNIT"));
    let expected = [
        ("appcode_build", "info"),
        ("appcode_cloud_call_duration_seconds", "histogram"),
        ("appcode_cloud_calls", "counter"),
        ("appcode_reconcile_duration_seconds", "histogram"),
        ("appcode_reconciles", "counter"),
        ("appcode_resources", "gauge"),
        ("appcode_resources_without_series", "gauge"),
        ("appcode_overdue_resources", "gauge"),
        ("appcode_overdue_seconds", "gauge"),
        ("appcode_stalled_resources", "gauge"),
        ("appcode_unready_resources", "gauge"),
        ("appcode_queue_depth", "gauge"),
        ("appcode_queue_oldest_seconds", "gauge"),
        ("appcode_queue_wait_seconds", "histogram"),
        ("appcode_limiter_wait_seconds", "histogram"),
        ("appcode_postponed_calls", "counter"),
        ("appcode_postponement_seconds", "histogram"),
        ("appcode_rotation_exposure_seconds", "histogram"),
        ("appcode_rotation_last_success_timestamp_seconds", "gauge"),
        ("appcode_rotation_next_timestamp_seconds", "gauge"),
        ("appcode_rotations", "counter"),
        ("appcode_rotations_unfinished", "counter"),
        ("appcode_unsaved_codes", "gauge"),
        ("appcode_backlog_seconds", "gauge"),
        ("appcode_api_requests", "counter"),
        ("appcode_api_request_duration_seconds", "histogram"),
        ("appcode_hastened_checks", "counter"),
        ("appcode_leader", "gauge"),
        ("appcode_watch_up", "gauge"),
        ("appcode_secret_watch_up", "gauge"),
        ("appcode_tasks", "gauge"),
        ("appcode_watch_last_sign_timestamp_seconds", "gauge"),
        ("process_cpu_seconds", "counter"),
        ("process_open_fds", "gauge"),
        ("process_resident_memory_bytes", "gauge"),
    ];
    assert_eq!(kinds, BTreeMap::from(expected));
    for (name, kind) in kinds {
        assert!(helps[name].ends_with('.') && !helps[name].ends_with(".."), "{name}");
        let unit = ["seconds", "bytes"]
            .into_iter()
            .find(|unit| name.ends_with(&format!("_{unit}")));
        assert_eq!(units.get(name).copied(), unit, "{name}");
        let suffix = match kind {
            "counter" => "_total",
            "histogram" => "_count",
            "info" => "_info",
            _ => "",
        };
        let sample = format!("{name}{suffix}");
        let is_sample = |line: &str| {
            line.strip_prefix(&sample)
                .is_some_and(|rest| rest.starts_with(['{', ' ']))
        };
        assert!(text.lines().any(is_sample), "{name}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn what_is_counted_shows_in_both_formats() {
    let metrics = Metrics::default();
    metrics.rotated(Trigger::Spec, Strategy::Reset, Outcome::Recovered, None);
    metrics.left_unfinished(Unfinished::NoEffect);
    metrics.called(Operation::Show, Ok(()), Duration::from_millis(70));
    metrics.reconciled(Err(&Error::Restless), Duration::ZERO);
    metrics.panicked(Duration::ZERO);
    metrics.waited(Duration::from_secs(7));
    metrics.admitted(Duration::ZERO);
    metrics.postponed(Limit::Rejected, Duration::from_secs(330));
    for format in [Format::OpenMetrics, Format::Text] {
        let text = metrics.encode(format, Levels::sample());
        for line in [
            r#"appcode_rotations_total{trigger="Spec",strategy="Reset",outcome="Recovered"} 1"#,
            r#"appcode_rotations_total{trigger="Spec",strategy="Reset",outcome="Completed"} 0"#,
            r#"appcode_rotations_unfinished_total{outcome="NoEffect"} 1"#,
            r#"appcode_rotations_unfinished_total{outcome="Abandoned"} 0"#,
            "appcode_rotation_exposure_seconds_count 0",
            r#"appcode_cloud_calls_total{operation="show",outcome="ok"} 1"#,
            r#"appcode_cloud_call_duration_seconds_count{operation="show"} 1"#,
            r#"appcode_reconciles_total{result="restless"} 1"#,
            r#"appcode_reconciles_total{result="panicked"} 1"#,
            "appcode_reconcile_duration_seconds_count 2",
            "appcode_queue_wait_seconds_sum 7.0",
            "appcode_limiter_wait_seconds_count 1",
            r#"appcode_postponed_calls_total{limit="rejected"} 1"#,
            "appcode_postponement_seconds_sum 330.0",
            concat!(r#"appcode_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
    }
}

#[test]
fn open_metrics_are_for_those_who_ask_for_them() {
    let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
    for (accept, expected) in [
        (prometheus, Format::OpenMetrics),
        ("*/*", Format::Text),
        ("text/plain;version=0.0.4", Format::Text),
        ("", Format::Text),
    ] {
        assert_eq!(Format::accepted(accept), expected, "{accept}");
    }
}
