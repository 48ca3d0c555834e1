//! The table of metrics for people, made from what the operator itself writes for a scrape.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::num::NonZeroU32;

use super::{Format, Levels, Metrics};
use crate::controller::{Census, Key, Signs};

const BEGIN: &str = "<!-- metrics: written by `make generate` -->\n";
const END: &str = "<!-- end of metrics -->\n";

/// Labels whose values are not a closed set, and what stands there.
const OPEN: [(&str, &str); 3] = [
    ("namespace", "of the resource"),
    ("name", "of the resource"),
    ("version", "of the program"),
];

impl Levels {
    /// Levels by which every family has a sample.
    pub(super) fn sample() -> Self {
        let time = NonZeroU32::new(1);
        let signs = Signs {
            last_success: time,
            next: time,
            ..Signs::default()
        };
        let census = Census {
            shown: vec![(Key::new("namespace", "name"), signs)],
            ..Census::default()
        };
        Self {
            census,
            ..Self::default()
        }
    }
}

/// A metric as the table shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// As queries name it: a counter with its `_total`, a histogram without `_bucket`.
    pub name: String,
    /// `counter`, `gauge`, `histogram` or `info`.
    pub kind: String,
    /// Its unit, if it has one.
    pub unit: String,
    /// What it tells.
    pub meaning: String,
    /// Labels with their values; none for values that are no closed set.
    pub labels: BTreeMap<String, BTreeSet<String>>,
}

/// Every metric that the operator can have, by name.
pub fn rows() -> Vec<Row> {
    let text = Metrics::default().encode(Format::OpenMetrics, Levels::sample());
    let mut rows: Vec<Row> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match (words.as_slice(), rows.last_mut()) {
            (["#", "HELP", name, meaning], _) => rows.push(Row {
                name: (*name).to_owned(),
                meaning: (*meaning).to_owned(),
                ..Row::default()
            }),
            (["#", "TYPE", _, kind], Some(row)) => {
                row.name.push_str(match *kind {
                    "counter" => "_total",
                    "info" => "_info",
                    _ => "",
                });
                (*kind).clone_into(&mut row.kind);
            }
            (["#", "UNIT", _, unit], Some(row)) => (*unit).clone_into(&mut row.unit),
            (_, Some(row)) => row.take_labels(line),
            _ => {}
        }
    }
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    rows
}

impl Row {
    /// Takes in the labels of a sample. No label value of ours holds a quotation mark or a comma.
    fn take_labels(&mut self, sample: &str) {
        let Some((_, labels)) = sample.split_once('{') else {
            return;
        };
        let labels = labels.rsplit_once('}').map_or("", |(labels, _)| labels).split(',');
        for (name, value) in labels.filter_map(|label| label.split_once('=')) {
            if name != "le" {
                let values = self.labels.entry(name.to_owned()).or_default();
                let is_open = OPEN.iter().any(|(open, _)| *open == name);
                values.extend((!is_open).then(|| value.trim_matches('"').to_owned()));
            }
        }
    }

    fn told_labels(&self) -> String {
        let told = self.labels.iter().map(|(name, values)| {
            let values: Vec<String> = values.iter().map(|value| format!("`{value}`")).collect();
            let open = OPEN.iter().find(|(open, _)| open == name);
            let values = open.map_or_else(|| values.join(", "), |(_, what)| (*what).to_owned());
            format!("`{name}`: {values}")
        });
        told.collect::<Vec<_>>().join("; ")
    }
}

/// The table in Markdown.
pub fn markdown() -> String {
    let mut table = "| metric | type | unit | labels | what it tells |\n|---|---|---|---|---|\n".to_owned();
    for row in rows() {
        let (name, kind, unit, labels) = (&row.name, &row.kind, &row.unit, row.told_labels());
        let meaning = row.meaning.trim_end_matches('.');
        // A String takes all that is written.
        let _ = writeln!(table, "| `{name}` | {kind} | {unit} | {labels} | {meaning} |");
    }
    table
}

/// `page` with the table in its place; none for a page without the marks around that.
pub fn renew(page: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}\n{END}{after}", markdown()))
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn the_page_has_the_table_that_is_made_from_the_code() {
        let page = include_str!("../../docs/metrics.md");
        assert_eq!(renew(page).as_deref(), Some(page), "make generate writes it");
        assert_eq!(renew("no marks"), None);
    }

    #[test]
    fn a_row_tells_name_type_unit_labels_and_meaning() {
        let rows = rows();
        let row = |name: &str| rows.iter().find(|row| row.name == name).unwrap();
        let calls = row("appcode_cloud_calls_total");
        assert_eq!((calls.kind.as_str(), calls.unit.as_str()), ("counter", ""));
        let operations: Vec<&str> = calls.labels["operation"].iter().map(String::as_str).collect();
        assert_eq!(operations, ["add", "delete", "reset", "show", "sign_in"]);
        let next = row("appcode_rotation_next_timestamp_seconds");
        assert_eq!((next.kind.as_str(), next.unit.as_str()), ("gauge", "seconds"));
        assert_eq!(
            next.told_labels(),
            "`name`: of the resource; `namespace`: of the resource"
        );
        assert!(
            row("appcode_cloud_call_duration_seconds")
                .labels
                .keys()
                .eq(["operation"])
        );
        assert!(rows.iter().all(|row| row.meaning.ends_with('.')));
    }
}
