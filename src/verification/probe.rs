//! What came of a try.

use std::time::Duration;

use async_trait::async_trait;

use super::{REFUSALS, THROTTLED, Verification};
use crate::modelarts::AppCode;

/// Who tries codes.
#[async_trait]
pub trait Prober: Send + Sync {
    /// Sends the request of `verification` with `code`, once, and tells what came of it. Nothing is tried again here.
    async fn probe(&self, verification: &Verification, code: &AppCode) -> Probe;
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The answer has the status that is expected: the code works.
    Passed,
    /// The code does not work, or not yet.
    Refused {
        /// 401 or 403.
        status: u16,
    },
    /// Too many calls: nothing is known about the code.
    Throttled {
        /// What the answer asks for, clamped to 1 s to 15 min.
        retry_after: Option<Duration>,
    },
    /// An answer with another status than the one that is expected.
    Unexpected {
        /// The status.
        status: u16,
    },
    /// No answer. The text says why, without codes and URLs.
    Unreachable(String),
}

impl Probe {
    /// All that [`Probe::category`] may be.
    pub const CATEGORIES: [&str; 5] = ["passed", "refused", "throttled", "unexpected", "unreachable"];

    /// What an answer with `status` means.
    pub fn of(status: u16, verification: &Verification, retry_after: Option<Duration>) -> Self {
        match status {
            _ if status == verification.expect_status => Self::Passed,
            _ if REFUSALS.contains(&status) => Self::Refused { status },
            THROTTLED => Self::Throttled { retry_after },
            _ => Self::Unexpected { status },
        }
    }

    /// Whether the code works.
    pub fn is_passed(&self) -> bool {
        *self == Self::Passed
    }

    /// A closed set of words for metric labels and logs.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Refused { .. } => "refused",
            Self::Throttled { .. } => "throttled",
            Self::Unexpected { .. } => "unexpected",
            Self::Unreachable(_) => "unreachable",
        }
    }

    /// What happened and what it means, for people. The same outcome is told in the same words.
    pub fn told(&self) -> String {
        match self {
            Self::Passed => "the verification passed: the new code works".into(),
            Self::Refused { status } => format!(
                "the verification was refused with HTTP {status}: the new code does not work there yet; if this stays so, \
                 check that spec.verification.url is of an API that this app may call"
            ),
            Self::Throttled { .. } => {
                "the verification was put off with HTTP 429: too many calls, which says nothing about the new code"
                    .into()
            }
            Self::Unexpected {
                status: status @ 300..=399,
            } => format!(
                "the verification got HTTP {status}, a redirect, which is not followed; correct spec.verification.url, or \
                 expectStatus"
            ),
            Self::Unexpected { status } => format!(
                "the verification got HTTP {status}, which is not what spec.verification.expectStatus asks for; correct the \
                 one that is wrong, the service or the spec"
            ),
            Self::Unreachable(why) => {
                format!("the verification got no answer, which says nothing about the new code: {why}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{VerificationHost, VerificationHosts};
    use super::*;
    use crate::api::VerificationMethod;

    fn expecting(status: i32) -> Verification {
        let hosts = VerificationHosts {
            allowed: vec![VerificationHost::parse("api.example.com").unwrap()],
            allow_insecure_loopback: false,
        };
        let second = Duration::from_secs(1);
        Verification::check(
            "https://api.example.com/",
            VerificationMethod::Get,
            status,
            second,
            &hosts,
        )
        .unwrap()
    }

    #[test]
    fn a_status_means_one_thing() {
        let soon = Some(Duration::from_secs(3));
        for (status, expected, outcome) in [
            (200, 200, Probe::Passed),
            (400, 400, Probe::Passed),
            (302, 302, Probe::Passed),
            (200, 204, Probe::Unexpected { status: 200 }),
            (204, 200, Probe::Unexpected { status: 204 }),
            (302, 200, Probe::Unexpected { status: 302 }),
            (404, 200, Probe::Unexpected { status: 404 }),
            (407, 200, Probe::Unexpected { status: 407 }),
            (500, 200, Probe::Unexpected { status: 500 }),
            (503, 200, Probe::Unexpected { status: 503 }),
            (401, 200, Probe::Refused { status: 401 }),
            (403, 400, Probe::Refused { status: 403 }),
            (429, 200, Probe::Throttled { retry_after: soon }),
        ] {
            assert_eq!(
                Probe::of(status, &expecting(expected), soon),
                outcome,
                "{status} {expected}"
            );
        }
    }

    #[test]
    fn each_outcome_is_told_in_words_and_in_a_category_of_its_own() {
        let soon = Some(Duration::from_secs(77));
        let outcomes = [
            Probe::Passed,
            Probe::Refused { status: 401 },
            Probe::Throttled { retry_after: soon },
            Probe::Unexpected { status: 404 },
            Probe::Unreachable("no connection".into()),
        ];
        let categories: Vec<&str> = outcomes.iter().map(Probe::category).collect();
        assert_eq!(categories, Probe::CATEGORIES);
        for outcome in &outcomes {
            assert_eq!(outcome.is_passed(), outcome.category() == "passed");
            assert!(outcome.told().starts_with("the verification "));
        }
        assert!(outcomes[1].told().contains("401") && outcomes[3].told().contains("404"));
        assert!(outcomes[4].told().ends_with("no connection"));
        assert!(Probe::Unexpected { status: 302 }.told().contains("redirect"));
        let (now, later) = (Probe::Throttled { retry_after: None }, &outcomes[2]);
        assert_eq!(
            now.told(),
            later.told(),
            "a message without times does not change from try to try"
        );
    }
}
