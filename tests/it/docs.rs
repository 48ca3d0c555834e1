//! What the docs promise to tell.

use std::collections::BTreeSet;
use std::path::Path;

use appcode_operator::api::Reason;

/// Reasons that need nobody.
const QUIET: [Reason; 13] = [
    Reason::CodeListed,
    Reason::CredentialsAccepted,
    Reason::Rotated,
    Reason::Adopted,
    Reason::Repaired,
    Reason::Rotating,
    Reason::Settling,
    Reason::Waiting,
    Reason::Idle,
    Reason::Suspended,
    Reason::Retrying,
    Reason::NotVerified,
    Reason::Abandoned,
];

#[test]
fn the_runbook_has_a_heading_for_each_reason_that_needs_a_person() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbook.md");
    let text = std::fs::read_to_string(path).unwrap();
    let headings: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let is_loud = |reason: &&Reason| !QUIET.contains(reason) && **reason != Reason::PlaintextRequested;
    let reasons: BTreeSet<&str> = Reason::ALL
        .iter()
        .filter(is_loud)
        .map(|reason| reason.as_str())
        .collect();
    assert_eq!(headings, reasons);
}
