//! `docs/runbook.md` as tests read it. It needs nothing else of the crate, so that others may take it in by its path.

use std::collections::BTreeMap;
use std::sync::LazyLock;

/// What stands under a heading.
#[derive(Default)]
struct Section {
    /// The commands, each in one line.
    commands: Vec<String>,
    /// The headings that its prose refers to, in small letters.
    links: Vec<String>,
}

/// The sections by their headings in small letters.
static SECTIONS: LazyLock<BTreeMap<String, Section>> =
    LazyLock::new(|| sections(include_str!("../../docs/runbook.md")));

fn sections(text: &str) -> BTreeMap<String, Section> {
    let mut sections: BTreeMap<String, Section> = BTreeMap::new();
    let (mut heading, mut is_inside) = (String::new(), false);
    for line in text.lines() {
        if let Some(text) = line.strip_prefix("### ") {
            heading = text.to_lowercase();
        }
        let Section { commands, links } = sections.entry(heading.clone()).or_default();
        if line.starts_with("```") {
            is_inside = line == "```console";
        } else if is_inside {
            match line.strip_prefix("$ ") {
                Some(command) => commands.push(command.to_owned()),
                None => commands.last_mut().unwrap().push_str(line.trim_start()),
            }
            let last = commands.last_mut().unwrap();
            if let Some(open) = last.strip_suffix('\\') {
                *last = open.to_owned();
            }
        } else {
            let anchors = line.split("](#").skip(1).filter_map(|rest| rest.split_once(')'));
            links.extend(anchors.map(|(anchor, _)| anchor.to_owned()));
        }
    }
    sections
}

/// Whether the command stands under the heading, or under one that is referred to there. Any value fits a word in
/// capitals.
pub fn tells(heading: &str, command: &str) -> bool {
    let Some(section) = SECTIONS.get(&heading.to_lowercase()) else {
        return false;
    };
    let linked = section.links.iter().filter_map(|link| SECTIONS.get(link));
    std::iter::once(section)
        .chain(linked)
        .flat_map(|section| &section.commands)
        .any(|written| fits(written, command))
}

/// Whether `told` is `written` with a value for each word in capitals.
fn fits(written: &str, told: &str) -> bool {
    let is_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let Some(first) = written.chars().next() else {
        return told.is_empty();
    };
    let end = written.find(|c| !is_of_word(c)).unwrap_or(written.len());
    let (part, rest) = written.split_at(end.max(first.len_utf8()));
    if part.len() > 1 && part.chars().all(|c| c.is_ascii_uppercase() || c == '_') {
        let longest = told.find(char::is_whitespace).unwrap_or(told.len());
        return (1..=longest).any(|end| told.get(end..).is_some_and(|left| fits(rest, left)));
    }
    told.strip_prefix(part).is_some_and(|left| fits(rest, left))
}
