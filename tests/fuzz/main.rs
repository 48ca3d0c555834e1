//! T8, T9, T10, T12 of `tests/it/hostile.rs`: what reads the bytes of others, tried with random cases on any toolchain:
//! seeds, changed at random places by what parsers stumble over. `make fuzz CASES=1000000` tries as many of each; the same
//! properties are targets of `cargo fuzz` in `fuzz/`.
//!
//! It is a program of its own, so that it is soon compiled with optimisation.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test says what must hold by panicking"
)]

mod properties;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Cases of each target in a usual run.
const CASES: usize = 2000;
/// Longest case, in bytes.
const LONGEST: usize = 1024;

/// What parsers stumble over.
const TOKENS: [&[u8]; 56] = [
    b"{{",
    b"}}",
    b"{%",
    b"%}",
    b"{#",
    b" if ",
    b" for ",
    b" endif ",
    b" endfor ",
    b"appCode",
    b"|json",
    b" in ",
    b"\0",
    b"\r\n",
    b"\n",
    b" ",
    b"\t",
    b"\x7f",
    b"\x1b[2J",
    b"\xff",
    b"\xc2\x9b",
    b"\xe2\x80\xae",
    b"\xef\xbb\xbf",
    b"\xd0\xb0",
    b"/",
    b"..",
    b"%",
    b"%2f",
    b"%252F",
    b"%00",
    b"?",
    b"#",
    b"@",
    b":",
    b"://",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\"",
    b"{",
    b"}",
    b"[[[[",
    b"]",
    b"null",
    b"-1",
    b"9223372036854775808",
    b"1e999",
    b"*",
    b"***",
    b"app-code/",
    b"https://",
    b"9999-12-30T22:00:00Z",
    b"-009999-01-02T01:59:59Z",
    b"2026-03-29T01:00:00Z",
    b"59",
    b"L",
];

/// Cases that follow from a seed.
struct Cases {
    random: StdRng,
    seeds: Vec<Vec<u8>>,
}

impl Cases {
    fn of(target: &str, seed: u64) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        assert!(!files.is_empty(), "{target} has no seeds");
        Self {
            random: StdRng::seed_from_u64(seed),
            seeds: files.iter().map(|file| std::fs::read(file).unwrap()).collect(),
        }
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end.max(1))
    }

    fn seed(&mut self) -> Vec<u8> {
        let number = self.below(self.seeds.len());
        self.seeds[number].clone()
    }

    fn next(&mut self) -> Vec<u8> {
        let mut case = if self.below(16) == 0 {
            let length = self.below(256);
            (0..length).map(|_| self.random.random()).collect()
        } else {
            self.seed()
        };
        for _ in 0..self.below(6) {
            self.change(&mut case);
        }
        case.truncate(LONGEST);
        case
    }

    fn change(&mut self, case: &mut Vec<u8>) {
        let (one, two) = (self.below(case.len() + 1), self.below(case.len() + 1));
        let (from, to) = (one.min(two), one.max(two));
        match self.below(8) {
            0 if from < case.len() => case[from] = self.random.random(),
            1 if from < case.len() => case[from] ^= 1 << self.below(8),
            2 => drop(case.drain(from..to.min(from + 16))),
            3 => {
                let again = case[from..to].to_vec();
                case.splice(to..to, again);
            }
            4 => case.truncate(to),
            5 => {
                // The head of one seed and the tail of another.
                let other = self.seed();
                let cut = self.below(other.len() + 1);
                case.truncate(from);
                case.extend_from_slice(&other[cut..]);
            }
            _ => {
                let token = TOKENS[self.below(TOKENS.len())];
                let end = if self.below(2) == 0 {
                    from
                } else {
                    to.min(from + token.len())
                };
                case.splice(from..end, token.iter().copied());
            }
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

fn fuzz(target: &str, property: fn(&[u8])) {
    let cases = number("FUZZ_CASES").map_or(CASES, |cases| usize::try_from(cases).unwrap());
    let seed = number("FUZZ_SEED").unwrap_or(1);
    let mut source = Cases::of(target, seed);
    for seed in &source.seeds {
        property(seed);
    }
    for number in 0..cases {
        let case = source.next();
        let outcome = catch_unwind(AssertUnwindSafe(|| property(&case)));
        assert!(
            outcome.is_ok(),
            "{target}, case {number} of FUZZ_SEED={seed}: {}",
            case.escape_ascii()
        );
    }
    println!("{target}: {cases} cases of FUZZ_SEED={seed}");
}

#[test]
fn no_answer_breaks_its_reader_or_makes_it_read_what_is_not_listed() {
    fuzz("answer", properties::answer);
}

#[test]
fn no_error_tells_a_secret_however_it_is_spelled() {
    fuzz("scrub", properties::scrubbed);
}

#[test]
fn no_id_code_or_endpoint_changes_a_url_but_in_its_own_place() {
    fuzz("url", properties::url);
}

#[test]
fn an_intent_reads_back_as_it_was_written_and_chooses_no_known_code() {
    fuzz("intent", properties::intent);
}

#[test]
fn the_annotations_of_a_secret_read_back_as_they_were_written() {
    fuzz("record", properties::record);
}

#[test]
fn a_schedule_that_is_accepted_fires_ever_later() {
    fuzz("schedule", properties::schedule);
}

#[test]
fn a_template_keeps_within_its_bounds_and_puts_codes_into_data_only() {
    fuzz("template", properties::template);
}
