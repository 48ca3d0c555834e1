//! The spellings that a text may have on its way through HTTP and JSON: decoded views of a text that know where each
//! byte came from, and the base64 forms of a secret.

use std::collections::HashSet;

/// Shortest base64 text that is searched for: shorter ones are found in ordinary words.
const SHORTEST_BASE64: usize = 4;

/// A byte of a decoded text and where it came from.
#[derive(Clone, Copy)]
pub(super) struct Unit {
    pub(super) byte: u8,
    pub(super) start: usize,
    pub(super) end: usize,
}

impl Unit {
    pub(super) fn of(byte: u8, at: usize) -> Self {
        Self {
            byte,
            start: at,
            end: at + 1,
        }
    }
}

pub(super) fn percent_decoded(units: &[Unit]) -> Vec<Unit> {
    let mut out = Vec::with_capacity(units.len());
    let mut rest = units;
    while let [first, tail @ ..] = rest {
        rest = match tail {
            [high, low, after @ ..] if first.byte == b'%' && is_hex(high.byte) && is_hex(low.byte) => {
                out.push(Unit {
                    byte: digit(high.byte) * 16 + digit(low.byte),
                    start: first.start,
                    end: low.end,
                });
                after
            }
            _ => {
                out.push(*first);
                tail
            }
        };
    }
    out
}

/// Where `secret` ends if it stands at `at` of `text`, however each of its characters is spelled.
///
/// Character by character, since a text as a whole cannot be decoded: what stands before the secret may look like the
/// start of an escape and swallow its first letters. Each escape costs one of `steps`; when there are none left, all of the
/// text from `at` on is taken for the secret.
pub(super) fn spelled(text: &[u8], at: usize, secret: &[u8], steps: &mut usize) -> Option<usize> {
    let starts = |byte: &u8| secret.first() == Some(byte) || ESCAPES.contains(byte);
    text.get(at).filter(|byte| starts(byte))?;
    let mut open = vec![(at, secret)];
    let mut seen = HashSet::new();
    let mut end = None;
    'paths: while let Some((mut at, mut rest)) = open.pop() {
        // What is no escape has one reading.
        while let (Some(byte), [first, more @ ..]) = (text.get(at), rest)
            && !ESCAPES.contains(byte)
        {
            if byte != first {
                continue 'paths;
            }
            (at, rest) = (at + 1, more);
        }
        if rest.is_empty() {
            end = end.max(Some(at));
            continue;
        }
        let Some(left) = steps.checked_sub(1) else {
            return Some(text.len());
        };
        *steps = left;
        for (bytes, next) in readings(text, at, LAYERS) {
            if let Some(rest) = rest.strip_prefix(bytes.as_slice())
                && seen.insert((next, rest.len()))
            {
                open.push((next, rest));
            }
        }
    }
    end.filter(|_| !secret.is_empty())
}

/// First bytes of escapes.
const ESCAPES: &[u8] = b"%\\";
/// Escapes within escapes that are looked through.
const LAYERS: u8 = 2;

/// All that may stand at `at`: the byte itself, and what each escape that begins there means. With where it ends.
fn readings(text: &[u8], at: usize, layers: u8) -> Vec<(Vec<u8>, usize)> {
    let Some(byte) = text.get(at) else { return Vec::new() };
    let mut all = vec![(vec![*byte], at + 1)];
    if layers == 0 || !ESCAPES.contains(byte) {
        return all;
    }
    let inner = |at| readings(text, at, layers - 1);
    for (lead, after) in inner(at) {
        if lead == b"%" {
            for (high, next) in inner(after) {
                for (low, end) in inner(next) {
                    if let ([high], [low]) = (high.as_slice(), low.as_slice())
                        && is_hex(*high)
                        && is_hex(*low)
                    {
                        all.push((vec![digit(*high) * 16 + digit(*low)], end));
                    }
                }
            }
        } else if lead == b"\\" {
            for (escaped, end) in inner(after) {
                match escaped.as_slice() {
                    b"b" => all.push((vec![8], end)),
                    b"f" => all.push((vec![12], end)),
                    b"n" => all.push((vec![b'\n'], end)),
                    b"r" => all.push((vec![b'\r'], end)),
                    b"t" => all.push((vec![b'\t'], end)),
                    [sign] if sign.is_ascii_punctuation() => all.push((escaped, end)),
                    _ => {}
                }
            }
        }
    }
    let units: Vec<Unit> = text
        .iter()
        .enumerate()
        .skip(at)
        .take(12)
        .map(|(at, byte)| Unit::of(*byte, at))
        .collect();
    if let Some((char, used)) = unicode_escape(&units) {
        all.push((char.to_string().into_bytes(), at + used));
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// What JSON escapes in `units` stand for.
pub(super) fn json_unescaped(units: &[Unit]) -> Vec<Unit> {
    let mut out = Vec::with_capacity(units.len());
    let mut rest = units;
    while let [first, tail @ ..] = rest {
        if let Some((char, used)) = unicode_escape(rest) {
            let (escape, after) = rest.split_at(used);
            let end = escape.last().map_or(first.end, |last| last.end);
            let mut buffer = [0; 4];
            for byte in char.encode_utf8(&mut buffer).bytes() {
                out.push(Unit {
                    byte,
                    start: first.start,
                    end,
                });
            }
            rest = after;
            continue;
        }
        rest = match tail {
            [escaped, after @ ..] if first.byte == b'\\' && escaped.byte.is_ascii() => {
                let byte = match escaped.byte {
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    other => other,
                };
                out.push(Unit {
                    byte,
                    start: first.start,
                    end: escaped.end,
                });
                after
            }
            _ => {
                out.push(*first);
                tail
            }
        };
    }
    out
}

/// The character that a `\uXXXX`, or a surrogate pair of them, at the start of `units` stands for, and its length.
fn unicode_escape(units: &[Unit]) -> Option<(char, usize)> {
    let half = |at: usize| {
        let lead: Vec<u8> = units.get(at..at + 2)?.iter().map(|unit| unit.byte).collect();
        let digits = units.get(at + 2..at + 6)?;
        let is_escape = lead == b"\\u" && digits.iter().all(|unit| is_hex(unit.byte));
        is_escape.then(|| {
            digits
                .iter()
                .fold(0_u16, |code, unit| code << 4 | u16::from(digit(unit.byte)))
        })
    };
    let first = half(0)?;
    let pair = half(6).and_then(|second| char::decode_utf16([first, second]).next()?.ok());
    match char::decode_utf16([first]).next()?.ok() {
        Some(char) => Some((char, 6)),
        None => Some(pair.map_or((char::REPLACEMENT_CHARACTER, 6), |char| (char, 12))),
    }
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_hexdigit()
}

fn digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        b'a'..=b'f' => byte - b'a' + 10,
        b'A'..=b'F' => byte - b'A' + 10,
        _ => 0,
    }
}

/// The base64 text that `secret` becomes at each of the three places where it may start in a longer text, in the
/// standard and the URL alphabet, without the characters at its ends that its neighbours take part in.
pub(super) fn base64_forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for alphabet in [b"+/", b"-_"] {
        for lead in 0..3_usize {
            let padded = [vec![0; lead], secret.to_vec()].concat();
            let text = base64(&padded, *alphabet);
            let start = (lead * 8).div_ceil(6);
            let end = padded.len() * 8 / 6;
            let form = text.get(start..end.max(start)).unwrap_or_default().to_vec();
            if form.len() >= SHORTEST_BASE64 && !forms.contains(&form) {
                forms.push(form);
            }
        }
    }
    forms
}

fn base64(bytes: &[u8], last: [u8; 2]) -> Vec<u8> {
    let char = |six: u32| match u8::try_from(six & 63).unwrap_or(0) {
        n @ 0..=25 => b'A' + n,
        n @ 26..=51 => b'a' + n - 26,
        n @ 52..=61 => b'0' + n - 52,
        62 => last[0],
        _ => last[1],
    };
    let mut out = Vec::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        out.extend(
            [18, 12, 6, 0]
                .into_iter()
                .take(chunk.len() + 1)
                .map(|shift| char(bits >> shift)),
        );
    }
    out
}

/// Every spelling of `secret` that scrubbing promises to find, for tests of what must not leak.
#[cfg(test)]
pub(super) fn spellings(secret: &str) -> Vec<String> {
    use super::super::sign;

    let upper = sign::encode(secret);
    let lower: String = percent_lower(&upper);
    let json = serde_json::to_string(secret).unwrap();
    let base64 = String::from_utf8(base64(secret.as_bytes(), *b"+/")).unwrap();
    let mut all = vec![
        secret.to_owned(),
        sign::encode(&upper),
        upper,
        lower,
        json[1..json.len() - 1].to_owned(),
    ];
    all.push(json[1..json.len() - 1].replace('/', "\\/"));
    all.push(secret.chars().fold(String::new(), |text, char| {
        let mut units = [0; 2];
        char.encode_utf16(&mut units)
            .iter()
            .fold(text, |text, unit| format!("{text}\\u{unit:04x}"))
    }));
    if base64.len() >= 6 {
        all.push(base64);
    }
    all
}

#[cfg(test)]
fn percent_lower(encoded: &str) -> String {
    let mut rest = 0;
    let lower = |char: char| {
        if char == '%' {
            rest = 3;
        }
        rest = i32::max(rest - 1, -1);
        if rest >= 0 { char.to_ascii_lowercase() } else { char }
    };
    encoded.chars().map(lower).collect()
}
