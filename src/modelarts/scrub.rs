//! Takes secrets out of texts that came from outside, before anybody sees them.
//!
//! Two nets: what is known to be secret is found in every spelling that a server may echo it in, and what looks like a
//! code, a URL or an echoed request goes as well, since an answer may hold codes that we have never seen.

mod spelling;

use self::spelling::{Unit, base64_forms, json_unescaped, percent_decoded, spelled};

/// Longest result, in characters.
const MAX_LENGTH: usize = 300;

/// What stands in place of a secret. It is not ASCII, so that it can never be, or complete, a part of one.
const MARK: char = '…';

/// As much of a text as is looked at, and as much of that as may be shown: a secret cut by the first bound lies behind
/// the second.
const LOOK: usize = 16 * 1024;
const SHOW: usize = 12 * 1024;

/// As many escapes are looked at in one text for all secrets, whatever either of them is: with escapes within escapes there
/// are more ways to read a text than time. What is left of the text then goes unread.
const STEPS: usize = 1 << 16;

/// Shortest run of a code's alphabet that is taken for a code, a key or a hash.
const RUN: usize = 32;

/// `text` without `secrets`, codes, URLs and control characters, cut to 300 characters.
///
/// A secret goes raw, percent-encoded (twice as well), JSON-escaped and in base64; then the segment after `/app-code/`,
/// URLs, an echoed canonical request, and any run of 32 or more characters of a code's alphabet. Empty secrets are
/// ignored.
pub fn scrub(text: &str, secrets: &[&str]) -> String {
    let text = one_line(text);
    let mut hidden = vec![false; text.len()];
    let raw: Vec<Unit> = text.bytes().enumerate().map(|(at, byte)| Unit::of(byte, at)).collect();
    let unescaped = json_unescaped(&raw);
    let decoded = percent_decoded(&raw);
    let views = [
        percent_decoded(&unescaped),
        percent_decoded(&decoded),
        unescaped,
        decoded,
        raw,
    ];
    let mut steps = STEPS;
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        for form in base64_forms(secret.as_bytes()) {
            for view in &views {
                hide_all(view, &form, &mut hidden);
            }
        }
        let line = one_line(secret);
        for form in [Some(*secret), Some(line.as_str()).filter(|line| line != secret)]
            .into_iter()
            .flatten()
        {
            for at in 0..text.len() {
                if let Some(end) = spelled(text.as_bytes(), at, form.as_bytes(), &mut steps) {
                    hidden
                        .iter_mut()
                        .take(end)
                        .skip(at)
                        .for_each(|is_hidden| *is_hidden = true);
                }
            }
        }
    }
    for view in &views {
        hide_code_segments(view, &mut hidden);
    }
    hide_urls(text.as_bytes(), &mut hidden);
    hide_echoes(&text, &mut hidden);
    hide_runs(text.as_bytes(), &mut hidden);
    rebuild(&text, &hidden)
}

/// `text` in one line: control characters, line ends and characters that reorder or hide text become spaces, runs of spaces
/// become one. What lies behind the first 16 KiB goes.
pub fn one_line(text: &str) -> String {
    let mut line = String::new();
    for char in text.chars() {
        if line.len() >= LOOK {
            break;
        }
        let is_space = char.is_whitespace()
            || char.is_control()
            || matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if !is_space {
            line.push(char);
        } else if !line.is_empty() && !line.ends_with(' ') {
            line.push(' ');
        }
    }
    line.truncate(line.trim_end().len());
    line
}

fn rebuild(text: &str, hidden: &[bool]) -> String {
    let mut out = String::new();
    let mut length = 0;
    for (at, char) in text.char_indices().take_while(|(at, _)| *at < SHOW) {
        let is_hidden = hidden
            .get(at..at + char.len_utf8())
            .is_none_or(|bytes| bytes.contains(&true));
        if is_hidden && out.ends_with(MARK) {
            continue;
        }
        if length == MAX_LENGTH - 1 {
            out.push(MARK);
            break;
        }
        out.push(if is_hidden { MARK } else { char });
        length += 1;
    }
    out
}

fn hide(units: &[Unit], hidden: &mut [bool]) {
    for unit in units {
        hidden
            .iter_mut()
            .take(unit.end)
            .skip(unit.start)
            .for_each(|is_hidden| *is_hidden = true);
    }
}

fn hide_all(view: &[Unit], form: &[u8], hidden: &mut [bool]) {
    if form.is_empty() {
        return;
    }
    for window in view.windows(form.len()) {
        if window.iter().map(|unit| unit.byte).eq(form.iter().copied()) {
            hide(window, hidden);
        }
    }
}

/// What follows `app-code/`, up to a space, a quote, a bar or an angle bracket: a code may hold `/`, `?` and `#`.
fn hide_code_segments(view: &[Unit], hidden: &mut [bool]) {
    const LEAD: &[u8] = b"app-code/";
    let mut rest = view;
    while rest.len() > LEAD.len() {
        let (lead, tail) = rest.split_at(LEAD.len());
        if lead
            .iter()
            .map(|unit| unit.byte.to_ascii_lowercase())
            .eq(LEAD.iter().copied())
        {
            let end = tail.iter().position(|unit| is_end(unit.byte)).unwrap_or(tail.len());
            let (segment, after) = tail.split_at(end);
            hide(segment, hidden);
            rest = after; // where more of them begin in a segment, they end with it
        } else {
            rest = rest.get(1..).unwrap_or(&[]);
        }
    }
}

fn hide_urls(text: &[u8], hidden: &mut [bool]) {
    let mut done = 0;
    for (at, window) in text.windows(3).enumerate() {
        if at >= done && window == b"://" {
            let is_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
            let scheme = text.iter().take(at).rev().take_while(|byte| is_scheme(byte)).count();
            let rest = text.iter().skip(at).take_while(|byte| !is_end(**byte)).count();
            hidden
                .iter_mut()
                .take(at + rest)
                .skip(at - scheme)
                .for_each(|is_hidden| *is_hidden = true);
            done = at + rest; // where more of them begin in one, they end with it
        }
    }
}

fn is_end(byte: u8) -> bool {
    byte.is_ascii_whitespace() || b"\"'|<>`".contains(&byte)
}

/// The gateway answers a wrong signature with the request as it saw it, path and headers included: all to the end goes.
fn hide_echoes(text: &str, hidden: &mut [bool]) {
    let lower = text.to_ascii_lowercase();
    for word in [
        "canonicalrequest",
        "canonical request",
        "stringtosign",
        "string to sign",
    ] {
        if let Some(at) = lower.find(word) {
            hidden
                .iter_mut()
                .skip(at + word.len())
                .for_each(|is_hidden| *is_hidden = true);
        }
    }
}

fn hide_runs(text: &[u8], hidden: &mut [bool]) {
    let is_code = |byte: u8| byte.is_ascii_alphanumeric() || b"+_!@#$%-/=~\\".contains(&byte);
    let mut start = 0;
    for at in 0..=text.len() {
        if text.get(at).is_some_and(|byte| is_code(*byte)) {
            continue;
        }
        if at - start >= RUN {
            hidden
                .iter_mut()
                .take(at)
                .skip(start)
                .for_each(|is_hidden| *is_hidden = true);
        }
        start = at + 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::spelling::spellings;
    use super::*;

    const CODE: &str = "873810a2cd4e4a9c88df5979411d6a50753c0af4024840fcac59e37ce38364e4";

    #[test]
    fn a_harmless_message_stays_as_it_is() {
        for text in [
            "Application demo-app does not exist.",
            "The throttling threshold has been reached: policy user over ratelimit,limit:10,time:1 minute",
            "signature expired, signature time:20230527T000431Z,server time:20230527T020608Z",
            "You are not authorized to perform the (modelarts:service:update) operation.",
        ] {
            assert_eq!(scrub(text, &[CODE, "secret"]), text);
        }
    }

    #[test]
    fn an_echoed_canonical_request_goes_to_its_end() {
        let text = format!(
            "Incorrect IAM authentication information: verify aksk signature fail, canonicalRequest:PUT|/v1/p/app-auth/apps/a/app-code/{CODE}/||content-type:application/json|host:h||x"
        );
        assert_eq!(
            scrub(&text, &[]),
            "Incorrect IAM authentication information: verify aksk signature fail, canonicalRequest…"
        );
    }

    #[test]
    fn urls_and_code_segments_and_unknown_codes_go() {
        assert_eq!(scrub("see https://host/v1?x=1 now", &[]), "see … now");
        assert_eq!(scrub("error (postgres://u:p@h/db)", &[]), "error (…");
        assert_eq!(
            scrub("PUT /v1/p/APP-CODE/short%2Fcode/x failed", &[]),
            "PUT /v1/p/APP-CODE/… failed"
        );
        assert_eq!(
            scrub("PUT %2Fapp-code%2Fshort failed", &[]),
            "PUT %2Fapp-code%2F… failed"
        );
        assert_eq!(scrub(&format!("code {CODE}."), &[]), "code ….");
        assert_eq!(scrub(&format!("app_secret:{}", &CODE[..32]), &[]), "app_secret:…");
    }

    #[test]
    fn control_characters_and_hidden_ones_become_one_space() {
        assert_eq!(scrub("a\r\n\u{1b}[31mb\u{202e}c\0\u{200b}d ", &[]), "a [31mb c d");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let text = "é ".repeat(400);
        let cut = scrub(&text, &[]);
        assert_eq!(cut.chars().count(), MAX_LENGTH);
        assert!(cut.ends_with(MARK));
        assert_eq!(
            scrub(&"x y ".repeat(75), &[]).chars().count(),
            299,
            "a text that fits is not marked as cut"
        );
    }

    #[test]
    fn a_secret_cut_by_the_bound_is_not_shown() {
        let secret = "p w ".repeat(50);
        for shift in 0..40 {
            let text = format!(
                "{}{secret}",
                "https://x".to_owned() + &"y".repeat(LOOK - 100 + shift) + " "
            );
            assert!(!scrub(&text, &[secret.trim()]).contains("p w"), "{shift}");
        }
    }

    #[test]
    fn what_could_be_read_in_too_many_ways_goes_unread() {
        for (sign, ways) in [("\\", 8000), ("%", 8000), ("\\u005c", 1000), ("%25", 2000)] {
            let secret = sign.repeat(500);
            let text = format!("before {} after", sign.repeat(ways));
            assert_eq!(scrub(&text, &[&secret]), "before …", "{sign}");
            assert_eq!(scrub("before after", &[&secret]), "before after");
        }
        let out = scrub(&format!("before {} after", "x".repeat(8000)), &[&"x".repeat(500)]);
        assert_eq!(out, "before … after");
        // Usual secrets are looked for to the end, in a text that is all escapes too.
        let text = format!("\\\"{}% word {CODE}", "%2F\\/".repeat(2000));
        let out = scrub(&text, &["password", CODE, "K%\\+/=="]);
        assert!(out.contains(" word …"), "{out}");
    }

    #[test]
    fn of_segments_and_urls_in_one_another_the_whole_goes() {
        assert_eq!(scrub("x app-code/a/App-Code/b c", &[]), "x app-code/… c");
        assert_eq!(
            scrub("x app-code/ app-code/b app-code/", &[]),
            "x app-code/ app-code/… app-code/"
        );
        assert_eq!(scrub("x ://://a://b c://d e", &[]), "x … … e");
    }

    #[test]
    fn a_stray_backslash_before_an_escaped_secret_hides_nothing() {
        let out = scrub(r#"said \b%+\" to us"#, &["b%+\""]);
        assert!(!out.contains("b%+"), "{out}");
    }

    #[test]
    fn a_stray_percent_sign_before_an_encoded_secret_hides_nothing() {
        for text in ["%AA%253A", "%AA%3a", "%41%41%3A", "%%2541A:"] {
            assert!(!scrub(text, &["AA:"]).contains('A'), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_spelling_of_a_secret_survives(
            secret in "[!-~]{1,80}|[ -~]{3,20}|[a-z%/+\\\\\"é漢😀]{1,12}",
            before in ".{0,20}|[a-zA-Z0-9%\\\\]{0,10}", after in ".{0,20}|[a-zA-Z0-9%]{0,10}", pick in any::<prop::sample::Index>(),
        ) {
            let spellings = spellings(&secret);
            let text = format!("{before}{}{after}", pick.get(&spellings));
            let out = scrub(&text, &[&secret]);
            prop_assert!(!out.contains(&secret), "{out:?}");
            // A spelling of a secret that already is a spelling of something shorter is that thing's matter.
            for spelling in spellings.iter().filter(|spelling| spelling.len() >= secret.len()) {
                prop_assert!(!out.contains(spelling.as_str()), "{out:?} holds {spelling:?}");
            }
        }

        #[test]
        fn no_text_makes_it_panic_or_grow(text in any::<String>(), secrets in prop::collection::vec(any::<String>(), 0..3)) {
            let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
            let out = scrub(&text, &secrets);
            prop_assert!(out.chars().count() <= MAX_LENGTH);
            prop_assert!(!out.chars().any(char::is_control));
        }

        #[test]
        fn an_unknown_code_never_survives(code in "[A-Za-z0-9+/][A-Za-z0-9+_!@#$%/=-]{63,179}", before in ".{0,20} ", after in " .{0,20}") {
            let out = scrub(&format!("{before}{code}{after}"), &[]);
            prop_assert!(!out.contains(&code[..33]));
        }
    }
}
