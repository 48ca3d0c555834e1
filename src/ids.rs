//! Names that have been checked, and the fingerprint that stands for a code wherever a code must not appear.
//!
//! Every type here is checked when it is made, so that later code cannot hold a bad one. Nothing here does I/O.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Why a text is not the name it was taken for. The text itself is left out: it may be a secret put in the wrong field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be {rule}")]
pub struct BadId {
    /// The field, in the words of the resource.
    pub what: &'static str,
    /// The rule that it breaks.
    pub rule: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal, $allowed:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text`.
            ///
            /// # Errors
            /// When it is empty, too long or holds a character outside its alphabet.
            pub fn parse(text: impl Into<String>) -> Result<Self, BadId> {
                let text = text.into();
                let allowed: fn(u8) -> bool = $allowed;
                if (1..=$max).contains(&text.len()) && text.bytes().all(allowed) {
                    Ok(Self(text))
                } else {
                    Err(BadId { what: $what, rule: $rule })
                }
            }

            /// The checked text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn is_word(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'-'
}

id!(
    /// An IAM project: 1 to 64 letters, digits and hyphens (the project rule of the ModelArts API reference).
    ProjectId, "projectId", 64, is_word, "1 to 64 letters, digits and hyphens"
);
id!(
    /// An app: 32 hex digits or `logic-app-` and a UUID in the vendor's examples; opaque here, 1 to 128 characters.
    AppId, "appId", 128, |b| is_word(b) || b == b'_', "1 to 128 letters, digits, hyphens and underscores"
);
id!(
    /// A ModelArts workspace: `0` is the default one, others are 32 hex digits.
    WorkspaceId, "workspaceId", 64, is_word, "1 to 64 letters, digits and hyphens"
);
id!(
    /// One rotation, from its intent to its record: 16 hex digits drawn at random.
    RotationId, "rotationId", 64, is_word, "1 to 64 letters, digits and hyphens"
);

impl RotationId {
    /// The id for a number that was drawn at random.
    pub fn from_random(draw: u64) -> Self {
        Self(format!("{draw:016x}"))
    }
}

/// Which app, as the cloud tells apps apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppIdentity {
    /// Origin of the ModelArts endpoint, such as `https://modelarts.cn-north-4.myhuaweicloud.com`.
    pub endpoint: String,
    /// The IAM project that holds the app.
    pub project_id: ProjectId,
    /// The app.
    pub app_id: AppId,
}

impl fmt::Display for AppIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.endpoint, self.project_id, self.app_id)
    }
}

/// What stands for an app code: SHA-256 over the app id, a zero byte and the code.
///
/// Two apps with one code have different fingerprints. Written in full (64 hex digits) on the Secret; the first 16
/// digits are what status, events and logs show.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Hex digits of the short form.
    pub const SHORT: usize = 16;

    /// The fingerprint of `code` as a code of `app`.
    pub fn of(app: &AppId, code: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(app.as_str().as_bytes());
        hash.update([0]);
        hash.update(code.as_bytes());
        Self(hash.finalize().into())
    }

    /// The first 16 hex digits, for people.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(Self::SHORT);
        text
    }

    /// Reads the 64 hex digits that `Display` writes.
    ///
    /// # Errors
    /// When `text` is anything else.
    pub fn parse(text: &str) -> Result<Self, BadId> {
        let bad = BadId {
            what: "fingerprint",
            rule: "64 lower-case hex digits",
        };
        let digits = text.as_bytes();
        if digits.len() != 64 || digits.iter().any(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(bad);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| bad.clone())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| bad.clone())?;
        }
        Ok(Self(bytes))
    }

    /// Whether `text`, as a person typed it, names this fingerprint: the short form, the full one or anything between.
    pub fn is_named_by(&self, text: &str) -> bool {
        text.len() >= Self::SHORT && self.to_string().starts_with(&text.to_ascii_lowercase())
    }
}

/// SHA-256 of `bytes` in hex digits, for telling whether something has changed.
pub fn hex_digest(bytes: &[u8]) -> String {
    Fingerprint(Sha256::digest(bytes).into()).to_string()
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn app(text: &str) -> AppId {
        AppId::parse(text).unwrap()
    }

    #[test]
    fn one_code_of_two_apps_has_two_fingerprints() {
        assert_ne!(Fingerprint::of(&app("a"), "code"), Fingerprint::of(&app("b"), "code"));
        assert_ne!(Fingerprint::of(&app("a"), "bcode"), Fingerprint::of(&app("ab"), "code"));
    }

    #[test]
    fn a_bad_id_is_refused_without_quoting_it() {
        for text in [
            "",
            "a/b",
            "..",
            "a%2fb",
            "a?b",
            "a#b",
            "a\r\nb",
            "a\0b",
            "é",
            &"a".repeat(129),
        ] {
            let error = AppId::parse(text).unwrap_err().to_string();
            assert!(text.is_empty() || !error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_fingerprint_is_named_by_its_short_form_or_more() {
        let print = Fingerprint::of(&app("a"), "code");
        assert!(print.is_named_by(&print.short()));
        assert!(print.is_named_by(&print.to_string().to_uppercase()));
        assert!(!print.is_named_by(&print.short()[..15]));
        assert!(!print.is_named_by(""));
    }

    proptest! {
        #[test]
        fn a_fingerprint_reads_back_what_it_wrote(code in ".{0,200}") {
            let print = Fingerprint::of(&app("a"), &code);
            prop_assert_eq!(Fingerprint::parse(&print.to_string()).unwrap(), print);
        }

        #[test]
        fn no_text_makes_parsing_panic(text in ".{0,80}") {
            if let Ok(print) = Fingerprint::parse(&text) {
                prop_assert_eq!(print.to_string(), text);
            }
        }
    }
}
