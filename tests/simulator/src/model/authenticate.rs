//! Whether a request proves whose it is.

use jiff::{SignedDuration, Timestamp};

use super::identity::StoredKey;
use super::{Caller, Cloud};
use crate::auth::{self, Claim};
use crate::wire::{Refusal, Request};

/// A signature's time may differ this much from the cloud's.
const ALLOWED_SKEW: SignedDuration = SignedDuration::from_mins(15);

/// Failures in a row that a key survives.
const FAILURES_ALLOWED: u32 = 5;

/// How long a key is locked by one more.
pub(super) const KEY_LOCK: SignedDuration = SignedDuration::from_mins(5);

const PROBLEM: &str = "Incorrect IAM authentication information: ";

impl Cloud {
    /// Whose request it is, by signature or token.
    pub(super) fn authenticate(&mut self, now: Timestamp, request: &Request) -> Result<Caller, Refusal> {
        if let Some(authorization) = request.get("Authorization") {
            let claim = Claim::parse(authorization).filter(Claim::covers_the_essentials);
            let claim =
                claim.ok_or_else(|| self.unauthenticated("verify aksk signature fail, malformed authorization"))?;
            return self.authenticate_key(now, request, &claim);
        }
        let token = request.get("X-Auth-Token").map(str::to_owned);
        let token = token.ok_or_else(|| self.unauthenticated("x-auth-token not found"))?;
        self.authenticate_token(now, &token)
    }

    pub(super) fn authenticate_token(&self, now: Timestamp, token: &str) -> Result<Caller, Refusal> {
        let Some(stored) = self.identities.tokens.get(token) else {
            return Err(self.unauthenticated("decrypt token fail"));
        };
        if stored.expires_at <= now {
            let problem = format!("token expires, expires_at: {}", stored.expires_at);
            return Err(self.unauthenticated(&problem));
        }
        if stored.revoked {
            return Err(self.gateway_refusal(401, "0307", "The token must be updated"));
        }
        let caller = self.caller(&stored.user_id, stored.project.as_deref());
        let mut caller = caller.ok_or_else(|| self.unauthenticated("decrypt token fail"))?;
        caller.unscoped = stored.project.is_none();
        Ok(caller)
    }

    fn authenticate_key(&mut self, now: Timestamp, request: &Request, claim: &Claim) -> Result<Caller, Refusal> {
        let Some(key) = self.identities.keys.get_mut(&claim.access) else {
            let problem = format!("Get secretKey failed,ak:{},err:ak not exist", claim.access);
            return Err(self.unauthenticated(&problem));
        };
        if key.locked_until.is_some_and(|until| now < until) {
            return Err(self.unauthenticated("AK access failed to reach the limit,forbidden"));
        }
        if key.locked_until.take().is_some() {
            key.failures = 0;
        }
        let user_id = key.user_id.clone();
        let key = key.clone();
        let problem = self.problem_with(now, request, claim, &key);
        let Some(key) = self.identities.keys.get_mut(&claim.access) else {
            return Err(self.unauthenticated("decrypt token fail"));
        };
        if let Some(problem) = problem {
            key.failures += 1;
            if key.failures > FAILURES_ALLOWED {
                key.locked_until = now.checked_add(KEY_LOCK).ok();
            }
            return Err(self.unauthenticated(&problem));
        }
        key.failures = 0;
        let caller = self.caller(&user_id, request.get("X-Project-Id").filter(|id| !id.is_empty()));
        caller.ok_or_else(|| self.unauthenticated("decrypt token fail"))
    }

    fn problem_with(&self, now: Timestamp, request: &Request, claim: &Claim, key: &StoredKey) -> Option<String> {
        let date = request.get("X-Sdk-Date").unwrap_or_default();
        let Some(time) = auth::parse_date(date) else {
            return Some("verify aksk signature fail, invalid X-Sdk-Date".into());
        };
        if now.duration_since(time).abs() > ALLOWED_SKEW {
            let server = auth::format_date(now);
            return Some(format!("signature expired, signature time:{date},server time:{server}"));
        }
        let canonical = auth::canonical_request(request, &claim.signed_headers);
        if auth::signature(&key.sk, &auth::string_to_sign(date, &canonical)) != claim.signature {
            return Some(self.mismatch(&canonical));
        }
        let security_token = request.get("X-Security-Token");
        match &key.temporary {
            None if security_token.is_some() => Some("decrypt token fail".into()),
            Some((token, _)) if security_token != Some(token) => Some("decrypt token fail".into()),
            Some((_, expires_at)) if *expires_at <= now => Some("calc ak sk signature fail:signature expired".into()),
            None | Some(_) => None,
        }
    }

    fn mismatch(&self, canonical_request: &str) -> String {
        let echo = if self.behaviour.echo_canonical_request {
            format!("canonicalRequest:{}", canonical_request.replace('\n', "|"))
        } else {
            "the signature does not match".into()
        };
        format!("verify aksk signature fail, {echo}")
    }

    /// What a wrong signature of this request is answered with, if it has one at all.
    pub(super) fn signature_refusal(&self, request: &Request) -> Option<Refusal> {
        let claim = Claim::parse(request.get("Authorization")?)?;
        let canonical = auth::canonical_request(request, &claim.signed_headers);
        Some(self.unauthenticated(&self.mismatch(&canonical)))
    }

    pub(super) fn unauthenticated(&self, problem: &str) -> Refusal {
        self.gateway_refusal(401, "0301", format!("{PROBLEM}{problem}"))
    }

    pub(super) fn gateway_refusal(&self, status: u16, code: &str, message: impl Into<String>) -> Refusal {
        Refusal::gateway(status, self.behaviour.gateway_prefix.as_str(), code, message)
    }
}
