//! Accounts, users, keys and tokens.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Cloud;

const TOKEN_LIFE: SignedDuration = SignedDuration::from_hours(24);

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
    pub(super) sk: String,
    pub(super) user_id: String,
    pub(super) temporary: Option<(String, Timestamp)>,
    pub(super) failures: u32,
    pub(super) locked_until: Option<Timestamp>,
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
    pub(super) keys: BTreeMap<String, StoredKey>,
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

    /// Makes an account, a project in `cn-north-4` and a user at once. Returns the project's id too.
    pub fn add_tenant(&mut self, name: &str) -> (Account, User, String) {
        let account = self.add_account(name);
        let project = self.add_project(&account.account_id, "cn-north-4");
        let user = self.add_user(&account.account_id, &format!("{name}-user"), "Passw0rd!of-the-user");
        (account, user, project)
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
            key.locked_until = now.checked_add(super::authenticate::KEY_LOCK).ok();
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
