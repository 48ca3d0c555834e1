//! What the docs promise to tell.

#[path = "../e2e/runbook/page.rs"]
mod page;
#[path = "../e2e/pages.rs"]
mod pages;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use appcode_operator::api::{AppCodeRotation, Reason};
use appcode_operator::args::Args;
use appcode_operator::validate::validate;
use clap::Parser;
use serde_json::Value;

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

/// The headings of reasons; those of alerts come last.
fn headings(text: &str) -> BTreeSet<&str> {
    let (reasons, _alerts) = text.split_once("\n## Alerts\n").unwrap();
    reasons.lines().filter_map(|line| line.strip_prefix("### ")).collect()
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

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

/// What a person types to install: commands, and values that the text names.
#[test]
fn the_chart_has_each_value_that_the_pages_name() {
    let chart = "deploy/helm/appcode-operator";
    let values: Value = serde_saphyr::from_str(&read(&format!("{chart}/values.yaml"))).unwrap();
    let is_value = |name: &str| values.pointer(&format!("/{}", name.replace('.', "/"))).is_some();
    let (mut set, mut named) = (0, 0);
    let readme = format!("{chart}/README.md");
    for page in ["docs/install.md", "docs/gitops.md", "docs/runbook.md", &readme] {
        let text = read(page);
        for assignment in text.split("--set ").skip(1) {
            let name = assignment.split('=').next().unwrap();
            assert!(is_value(name), "{page}: --set {name}");
            set += 1;
        }
        for code in text.split('`').skip(1).step_by(2) {
            let name = code.split('=').next().unwrap();
            let is_path = name.contains('.') && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
            // Fields of a resource and files have dots too.
            if is_path && values.get(name.split('.').next().unwrap()).is_some() {
                assert!(is_value(name), "{page}: {name}");
                named += 1;
            }
        }
        for path in text.split_whitespace().filter(|word| word.starts_with("deploy/")) {
            let path = path.trim_end_matches(['`', ',', ';', '.', ':', ')']);
            assert!(root().join(path).exists(), "{page}: {path}");
        }
    }
    assert!(
        set >= 5 && named > 20,
        "{set} and {named}: the pages are read in another way than they are written"
    );
}

#[test]
fn the_page_installs_in_three_commands() {
    let text = read("docs/install.md");
    let section = text.split("\n## Three commands\n").nth(1).unwrap();
    let block = section
        .split("```console\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let commands: Vec<&str> = block.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    assert_eq!(commands.len(), 3, "{block}");
    assert!(commands[0].starts_with("helm install appcode-operator deploy/helm/appcode-operator "));
}

/// The page says of each threat what tries it.
#[test]
fn the_tests_that_the_table_of_threats_names_are_there() {
    let text = read("docs/security.md");
    let table = text.split("\n## Threats and tests\n").nth(1).unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(rows.len() > 10);
    for row in rows {
        let tried = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let mut names = tried.split('`').skip(1).step_by(2).peekable();
        assert!(names.peek().is_some() || tried.starts_with("not tried"), "{row}");
        for name in names {
            assert!(root().join(format!("tests/{name}.rs")).exists(), "{name}");
        }
    }
}

#[test]
fn the_commands_that_the_pages_name_are_there() {
    let makefile = read("Makefile");
    let pages = [
        "README.md",
        "CONTRIBUTING.md",
        "docs/reliability.md",
        "docs/performance.md",
        "docs/reset-or-overlap.md",
    ];
    let mut named = 0;
    for page in pages {
        let text = read(page);
        for code in text.split('`').skip(1).step_by(2) {
            let words: Vec<&str> = code.split_whitespace().collect();
            if let ["make", target, ..] = words[..] {
                assert!(makefile.contains(&format!("\n{target}:")), "{page}: {code}");
                named += 1;
            }
            let Some((_, tests)) = code.split_once("cargo test --test ") else {
                continue;
            };
            let mut words = tests.split_whitespace();
            let (suite, filter) = (words.next().unwrap(), words.next().expect("a filter"));
            let (module, begin) = filter.split_once("::").unwrap_or((filter, ""));
            let path = format!("tests/{suite}/{module}.rs");
            assert!(root().join(&path).exists(), "{page}: {code}");
            let is_there = begin.is_empty() || read(&path).contains(&format!("fn {begin}"));
            assert!(is_there, "{page}: {code}");
            named += 1;
        }
    }
    assert!(
        named > 15,
        "{named}: the pages are read in another way than they are written"
    );
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
