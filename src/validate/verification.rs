//! The verification: how a new code is tried, and that its host may see codes.

use std::time::Duration;

use super::{Remedy, Report};
use crate::api::{Reason, VerificationSpec};
use crate::verification::{DEFAULT_STATUS, DEFAULT_TIMEOUT, Verification, VerificationHosts};

impl Report {
    pub(super) fn verification(&mut self, spec: &VerificationSpec, hosts: &VerificationHosts) -> Option<Verification> {
        let timeout = match spec.timeout.as_deref() {
            None => Some(DEFAULT_TIMEOUT),
            // None of the texts that can be read is negative.
            Some(text) => self
                .duration("spec.verification.timeout", text)
                .map(|time| Duration::try_from(time).unwrap_or_default()),
        };
        let checked = Verification::check(
            &spec.url,
            spec.method.unwrap_or_default(),
            spec.expect_status.unwrap_or(DEFAULT_STATUS),
            timeout.unwrap_or(DEFAULT_TIMEOUT),
            hosts,
        );
        match checked {
            Ok(verification) => timeout.map(|_| verification),
            Err(errors) => {
                for error in errors {
                    if error.is_by_admin() {
                        let ask = "name one that is, or ask the operator's administrator to allow it";
                        let message = format!("spec.verification.{error}; {ask}");
                        self.refuse(Reason::EndpointNotAllowed, message, Remedy::Verification);
                    } else {
                        self.invalid(format!("spec.verification.{error}"));
                    }
                }
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{problems, resource, rules};
    use super::super::{Problem, Rules, validate};
    use super::*;
    use crate::api::VerificationMethod;
    use crate::verification::VerificationHost;

    fn lists(host: &str) -> Rules {
        Rules {
            verification_hosts: VerificationHosts {
                allowed: vec![VerificationHost::parse(host).unwrap()],
                allow_insecure_loopback: false,
            },
            ..rules()
        }
    }

    fn found(verification: &Value, rules: &Rules) -> Vec<String> {
        problems(&json!({ "verification": verification }), rules)
    }

    const URL: &str = "https://inference.example.com/v1/health?deep=canary";

    #[test]
    fn what_is_left_out_has_a_default() {
        let rules = lists("inference.example.com");
        let valid = |verification: Value| {
            let valid = validate(&resource(&json!({ "verification": verification })), &rules).unwrap();
            valid.verification.unwrap()
        };
        let verification = valid(json!({"url": URL}));
        assert_eq!(
            (verification.method, verification.expect_status, verification.timeout),
            (VerificationMethod::Get, 200, Duration::from_secs(10))
        );
        let verification = valid(json!({"url": URL, "method": "POST", "expectStatus": 400, "timeout": "1m"}));
        assert_eq!(
            (verification.method, verification.expect_status, verification.timeout),
            (VerificationMethod::Post, 400, Duration::from_secs(60))
        );
        assert!(validate(&resource(&json!({})), &rules).unwrap().verification.is_none());
    }

    #[test]
    fn a_host_that_is_not_listed_is_for_the_administrator_to_allow() {
        for rules in [rules(), lists("inference.example.com:8443"), lists("example.com")] {
            let refused = validate(&resource(&json!({"verification": {"url": URL}})), &rules).unwrap_err();
            let problem = Problem::sum_up(&refused);
            assert_eq!((refused.len(), problem.reason), (1, Reason::EndpointNotAllowed));
            assert_eq!(
                problem.message,
                "spec.verification.url: the host is not on the operator's allow-list (--verification-hosts); name one that \
                 is, or ask the operator's administrator to allow it; with verification: null old codes are retired without \
                 the new ones being tried"
            );
        }
    }

    #[test]
    fn every_broken_rule_is_told_at_once_and_no_value_is_quoted() {
        let rules = lists("inference.example.com");
        let url = "https://canary:canary@inference.example.com/?canary#canary";
        let messages = found(&json!({"url": url, "expectStatus": 403, "timeout": "61s"}), &rules);
        assert_eq!(messages.len(), 3, "{messages:?}");
        assert!(!messages.concat().contains("canary"), "{messages:?}");
        for (timeout, is_taken) in [
            ("0s", false),
            ("1s", true),
            ("60s", true),
            ("1m1s", false),
            ("1.5s", false),
        ] {
            let messages = found(&json!({"url": URL, "timeout": timeout}), &rules);
            assert_eq!(messages.is_empty(), is_taken, "{timeout}: {messages:?}");
        }
    }
}
