//! What the docs promise to tell.

#[path = "../e2e/runbook/page.rs"]
mod page;
#[path = "../e2e/pages.rs"]
mod pages;

use std::collections::BTreeSet;

use appcode_operator::api::{AppCodeRotation, Reason};
use appcode_operator::args::Args;
use appcode_operator::validate::validate;
use clap::Parser;

/// Reasons that need nobody.
const QUIET: [Reason; 21] = [
    Reason::CodeListed,
    Reason::CredentialsAccepted,
    Reason::Rotated,
    Reason::Adopted,
    Reason::Repaired,
    Reason::Rendered,
    Reason::Rotating,
    Reason::Settling,
    Reason::Waiting,
    Reason::Idle,
    Reason::Suspended,
    Reason::Retrying,
    Reason::NotVerified,
    Reason::Abandoned,
    Reason::Distributing,
    Reason::Verifying,
    Reason::RollingOut,
    Reason::RolledOut,
    Reason::Restarted,
    Reason::Retiring,
    Reason::Retired,
];

fn headings(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.strip_prefix("### ")).collect()
}

#[test]
fn the_runbook_has_a_heading_for_each_reason_that_needs_a_person() {
    let text = page::text();
    let is_loud = |reason: &&Reason| !QUIET.contains(reason) && **reason != Reason::PlaintextRequested;
    let reasons: BTreeSet<&str> = Reason::ALL
        .iter()
        .filter(is_loud)
        .map(|reason| reason.as_str())
        .collect();
    assert_eq!(headings(&text), reasons);
}

/// That the commands resolve is for `tests/e2e` to show.
#[test]
fn each_heading_of_the_runbook_has_commands() {
    let text = page::text();
    let blocks = page::blocks(&text);
    let resolved: BTreeSet<&str> = blocks.iter().filter_map(|block| block.reason.as_deref()).collect();
    assert_eq!(resolved, headings(&text));
}

fn words(text: &str) -> BTreeSet<&str> {
    let parts = text.split(|c| !page::is_of_word(c));
    parts.filter(|part| page::is_word(part)).collect()
}

#[test]
fn the_runbook_says_what_each_word_in_its_commands_stands_for() {
    let text = page::text();
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    let blocks = page::blocks(&text);
    let used: BTreeSet<&str> = blocks.iter().flat_map(|block| words(&block.script)).collect();
    assert_eq!(used, words(&rows.join(" ")));
}

/// That the API server and the operator do as the pages say is for `tests/e2e` to show.
#[test]
fn each_manifest_of_the_docs_is_one_that_the_operator_takes() {
    let args = Args::parse_from(["appcode-operator", "--verification-hosts=inference.example.com"]);
    let rules = args.settings().unwrap().rules;
    for page in ["reset-or-overlap.md", "consuming-the-secret.md"] {
        let mut objects = pages::manifests(page);
        objects.retain(|object| object["kind"] == "AppCodeRotation");
        assert_eq!(objects.len(), 2, "{page}");
        for object in objects {
            let rotation: AppCodeRotation = serde_json::from_value(object).unwrap();
            let refused = validate(&rotation, &rules).err();
            assert!(refused.is_none(), "{:?}: {refused:?}", rotation.metadata.name);
        }
    }
}

/// In what words is for the unit tests of the events to show.
#[test]
fn the_page_of_events_tells_each_reason_that_an_event_may_have() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/events.md");
    let text = std::fs::read_to_string(path).unwrap();
    // Of a table the first column; of the list of stops all.
    let (tables, stops) = text.split_once("A stop is told with").unwrap();
    let firsts = tables.lines().filter_map(|line| line.strip_prefix("| `"));
    let firsts = firsts.filter_map(|line| line.split_once(" | ").map(|(first, _)| first));
    let told: BTreeSet<&str> = firsts.chain([stops]).flat_map(|part| part.split('`')).collect();
    for reason in Reason::ALL {
        let is_told = !appcode_operator::status::UNTOLD.contains(reason);
        assert_eq!(told.contains(reason.as_str()), is_told, "{reason:?}");
    }
}
