//! Accounts, users, keys and tokens, and whether a request proves whose it is.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Cloud;
use crate::auth::{self, Claim};
use crate::wire::{Refusal, Request};

/// A signature's time may differ this much from the cloud's.
const ALLOWED_SKEW: SignedDuration = SignedDuration::from_mins(15);

/// Failures in a row that a key survives.
const FAILURES_ALLOWED: u32 = 5;

/// How long a key is locked by one more.
const KEY_LOCK: SignedDuration = SignedDuration::from_mins(5);

const TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(24);

const PROBLEM: &str = "Incorrect IAM authentication information: ";

/// An account, with the projects that it has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// 32 hex digits.
    pub account_id: String,
    /// The domain name of sign-ins.
    pub name: String,
}

/// An IAM user with its first key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// 32 hex digits.
    pub user_id: String,
    /// Name for sign-ins.
    pub name: String,
    /// Password for sign-ins.
    pub password: String,
    /// The account's id.
    pub account_id: String,
    /// The account's name, domain name of sign-ins.
    pub account_name: String,
    /// Access key.
    pub ak: String,
    /// Secret key.
    pub sk: String,
}

/// A permanent key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    /// Access key.
    pub ak: String,
    /// Secret key.
    pub sk: String,
}

/// A temporary key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemporaryKey {
    /// Access key.
    pub ak: String,
    /// Secret key.
    pub sk: String,
    /// Value of `X-Security-Token`.
    pub security_token: String,
    /// When it stops working.
    pub expires_at: Timestamp,
}

/// Whose request it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// IAM user id.
    pub user_id: String,
    /// The user's account.
    pub account_id: String,
    /// The project that the credential is for. A signature without `X-Project-Id` is for every project of the account.
    pub project: Option<String>,
    /// A token for no project, which ModelArts refuses.
    pub unscoped: bool,
}

#[derive(Debug, Clone)]
pub(super) struct StoredKey {
    sk: String,
    user_id: String,
    temporary: Option<(String, Timestamp)>,
    failures: u32,
    locked_until: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub(super) struct StoredUser {
    pub(super) name: String,
    pub(super) password: String,
    pub(super) account_id: String,
    pub(super) failures: u32,
    pub(super) locked_until: Option<Timestamp>,
}

#[derive(Debug, Clone)]
pub(super) struct StoredToken {
    pub(super) user_id: String,
    pub(super) project: Option<String>,
    pub(super) expires_at: Timestamp,
    pub(super) revoked: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Project {
    pub(super) name: String,
    pub(super) account_id: String,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Identities {
    pub(super) accounts: BTreeMap<String, String>,
    pub(super) projects: BTreeMap<String, Project>,
    pub(super) users: BTreeMap<String, StoredUser>,
    keys: BTreeMap<String, StoredKey>,
    pub(super) tokens: BTreeMap<String, StoredToken>,
    pub(super) delegates: super::signin::Delegates,
}

impl Cloud {
    /// Makes an account.
    pub fn add_account(&mut self, name: &str) -> Account {
        let account_id = self.new_id();
        self.identities.accounts.insert(account_id.clone(), name.to_owned());
        Account {
            account_id,
            name: name.to_owned(),
        }
    }

    /// Makes a project of an account; its name is its region. Returns its id.
    pub fn add_project(&mut self, account_id: &str, region: &str) -> String {
        let id = self.new_id();
        let project = Project {
            name: region.to_owned(),
            account_id: account_id.to_owned(),
        };
        self.identities.projects.insert(id.clone(), project);
        id
    }

    /// Makes a workspace of an account besides `"0"`, which every account has. Returns its id.
    pub fn add_workspace(&mut self, account_id: &str) -> String {
        let id = self.new_id();
        self.workspaces
            .entry(account_id.to_owned())
            .or_default()
            .push(id.clone());
        id
    }

    /// Makes a user with a key.
    pub fn add_user(&mut self, account_id: &str, name: &str, password: &str) -> User {
        let user_id = self.new_id();
        let stored = StoredUser {
            name: name.to_owned(),
            password: password.to_owned(),
            account_id: account_id.to_owned(),
            failures: 0,
            locked_until: None,
        };
        self.identities.users.insert(user_id.clone(), stored);
        let key = self.add_key(&user_id);
        User {
            name: name.to_owned(),
            password: password.to_owned(),
            account_id: account_id.to_owned(),
            account_name: self.identities.accounts.get(account_id).cloned().unwrap_or_default(),
            user_id,
            ak: key.ak,
            sk: key.sk,
        }
    }

    /// Makes another permanent key of a user.
    pub fn add_key(&mut self, user_id: &str) -> Key {
        let key = self.new_key();
        self.store_key(&key, user_id, None);
        key
    }

    /// Ends a key, permanent or temporary. False if there is none.
    pub fn revoke_key(&mut self, ak: &str) -> bool {
        self.identities.keys.remove(ak).is_some()
    }

    /// Makes a temporary key of a user.
    pub fn add_temporary_key(&mut self, now: Timestamp, user_id: &str, life: SignedDuration) -> TemporaryKey {
        let key = self.new_key();
        let security_token = self.new_text(512, BASE64);
        let expires_at = now.checked_add(life).unwrap_or(Timestamp::MAX);
        self.store_key(&key, user_id, Some((security_token.clone(), expires_at)));
        TemporaryKey {
            ak: key.ak,
            sk: key.sk,
            security_token,
            expires_at,
        }
    }

    /// Makes a token of a user for a project, good for 24 hours.
    pub fn issue_token(&mut self, now: Timestamp, user_id: &str, project_id: Option<&str>) -> String {
        let length = self.behaviour.token_length.max(64);
        let token = format!("MII{}", self.new_text(length.saturating_sub(3), BASE64));
        let stored = StoredToken {
            user_id: user_id.to_owned(),
            project: project_id.map(str::to_owned),
            expires_at: now.checked_add(TOKEN_LIFE).unwrap_or(Timestamp::MAX),
            revoked: false,
        };
        self.identities.tokens.insert(token.clone(), stored);
        token
    }

    /// Makes all tokens of a user expire now. Returns how many there were.
    pub fn expire_tokens(&mut self, now: Timestamp, user_id: &str) -> usize {
        let tokens = self.identities.tokens.values_mut();
        let live = tokens.filter(|token| token.user_id == user_id && token.expires_at > now);
        live.map(|token| token.expires_at = now).count()
    }

    /// Ends all tokens of a user ahead of time: they must be updated. Returns how many there were.
    pub fn revoke_tokens(&mut self, user_id: &str) -> usize {
        let tokens = self.identities.tokens.values_mut();
        let live = tokens.filter(|token| token.user_id == user_id && !token.revoked);
        live.map(|token| token.revoked = true).count()
    }

    /// Changes a user's password, which ends its tokens. False if there is no such user.
    pub fn set_password(&mut self, user_id: &str, password: &str) -> bool {
        self.revoke_tokens(user_id);
        let user = self.identities.users.get_mut(user_id);
        user.map(|user| password.clone_into(&mut user.password)).is_some()
    }

    /// Removes a user with keys and tokens; its apps stay. False if there is none.
    pub fn remove_user(&mut self, user_id: &str) -> bool {
        self.identities.keys.retain(|_, key| key.user_id != user_id);
        self.identities.tokens.retain(|_, token| token.user_id != user_id);
        self.identities.users.remove(user_id).is_some()
    }

    /// Whether a key is locked by failures.
    pub fn is_locked(&self, now: Timestamp, ak: &str) -> bool {
        let key = self.identities.keys.get(ak);
        key.and_then(|key| key.locked_until).is_some_and(|until| now < until)
    }

    /// Locks a key as too many failures would.
    pub fn lock_key(&mut self, now: Timestamp, ak: &str) {
        if let Some(key) = self.identities.keys.get_mut(ak) {
            key.locked_until = now.checked_add(KEY_LOCK).ok();
        }
    }

    /// The caller that a user would be with a credential for a project.
    pub fn caller(&self, user_id: &str, project: Option<&str>) -> Option<Caller> {
        let user = self.identities.users.get(user_id)?;
        Some(Caller {
            user_id: user_id.to_owned(),
            account_id: user.account_id.clone(),
            project: project.map(str::to_owned),
            unscoped: false,
        })
    }

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
            let echo = if self.behaviour.echo_canonical_request {
                format!("canonicalRequest:{}", canonical.replace('\n', "|"))
            } else {
                "the signature does not match".into()
            };
            return Some(format!("verify aksk signature fail, {echo}"));
        }
        let security_token = request.get("X-Security-Token");
        match &key.temporary {
            None if security_token.is_some() => Some("decrypt token fail".into()),
            None => None,
            Some((token, _)) if security_token != Some(token) => Some("decrypt token fail".into()),
            Some((_, expires_at)) if *expires_at <= now => Some("calc ak sk signature fail:signature expired".into()),
            Some(_) => None,
        }
    }

    pub(super) fn unauthenticated(&self, problem: &str) -> Refusal {
        self.gateway_refusal(401, "0301", format!("{PROBLEM}{problem}"))
    }

    pub(super) fn gateway_refusal(&self, status: u16, code: &str, message: impl Into<String>) -> Refusal {
        Refusal::gateway(status, self.behaviour.gateway_prefix.as_str(), code, message)
    }

    fn new_key(&mut self) -> Key {
        Key {
            ak: self.new_text(20, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"),
            sk: self.new_text(40, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"),
        }
    }

    fn store_key(&mut self, key: &Key, user_id: &str, temporary: Option<(String, Timestamp)>) {
        let stored = StoredKey {
            sk: key.sk.clone(),
            user_id: user_id.to_owned(),
            temporary,
            failures: 0,
            locked_until: None,
        };
        self.identities.keys.insert(key.ak.clone(), stored);
    }
}

const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
