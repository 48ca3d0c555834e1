//! Rules for single texts.

use jiff::SignedDuration;

/// Reads `1h30m`: up to five digits of hours, seven of minutes, seven of seconds, each at most once and in this order.
/// The longest text is some 31 years, so nothing overflows here or in the CRD's rules.
pub(super) fn parse_duration(text: &str) -> Option<SignedDuration> {
    let mut rest = text;
    let mut total = 0;
    for (unit, seconds, max_digits) in [('h', 3600, 5), ('m', 60, 7), ('s', 1, 7)] {
        let Some((digits, tail)) = rest.split_once(unit) else {
            continue;
        };
        if !(1..=max_digits).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        total += digits.parse::<i64>().ok()? * seconds;
        rest = tail;
    }
    (rest.is_empty() && !text.is_empty()).then(|| SignedDuration::from_secs(total))
}

/// A DNS subdomain, which Kubernetes asks the names of Secrets and of most other objects to be.
pub(crate) fn is_object_name(name: &str) -> bool {
    let is_edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_part = |part: &[u8]| {
        part.iter().all(|b| is_edge(b) || *b == b'-')
            && part.first().is_some_and(is_edge)
            && part.last().is_some_and(is_edge)
    };
    name.len() <= 253 && name.as_bytes().split(|b| *b == b'.').all(is_part)
}

/// A key as the API server takes it in the data of a Secret.
pub(crate) fn is_secret_key(key: &str) -> bool {
    (1..=253).contains(&key.len())
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && key != "."
        && !key.starts_with("..")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_hours_minutes_and_seconds_in_this_order() {
        for (text, seconds) in [
            ("0s", 0),
            ("90s", 90),
            ("1h30m", 5400),
            ("720h", 2_592_000),
            ("1h1s", 3601),
            ("07m", 420),
        ] {
            assert_eq!(parse_duration(text), Some(SignedDuration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "0",
            "5",
            "h",
            "1",
            "1d",
            "1H",
            "-1h",
            "+1h",
            "1.5h",
            " 1h",
            "1h ",
            "1h 1m",
            "1m1h",
            "1h1h",
            "1ms",
            "100000h",
            "10000000s",
            "１h",
            "1h30",
            "1e3s",
            "0x1s",
            "1_0s",
            "é",
            "∞h",
        ] {
            assert_eq!(parse_duration(text), None, "{text:?}");
        }
        assert!(parse_duration("99999h9999999m9999999s").is_some());
    }

    #[test]
    fn names_and_keys_are_what_the_api_server_takes() {
        for name in ["a", "0", "a-b", "a.b", &"a".repeat(253)] {
            assert!(is_object_name(name), "{name}");
        }
        for name in [
            "",
            "-a",
            "a-",
            ".a",
            "a.",
            "a..b",
            "a.-b",
            "A",
            "a_b",
            "a/b",
            "é",
            &"a".repeat(254),
        ] {
            assert!(!is_object_name(name), "{name}");
        }
        for key in ["a", "A_b-c.d", ".a", "a..", "-", &"a".repeat(253)] {
            assert!(is_secret_key(key), "{key}");
        }
        for key in ["", ".", "..", "..a", "a/b", "a b", "é", &"a".repeat(254)] {
            assert!(!is_secret_key(key), "{key}");
        }
    }

    proptest! {
        #[test]
        fn no_duration_makes_it_panic(text in "[0-9]{0,25}[hmsn]?[0-9]{0,9}[hms]?.{0,3}") {
            if let Some(parsed) = parse_duration(&text) {
                prop_assert!(!parsed.is_negative());
            }
        }
    }
}
