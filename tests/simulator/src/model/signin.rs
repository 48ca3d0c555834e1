//! IAM: passwords to tokens, tokens and agencies to temporary keys, and the identities that a machine or a pod is given.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::identity::StoredUser;
use super::{Caller, Cloud, TemporaryKey};
use crate::wire::{Answer, Refusal};

/// Wrong passwords in a row that a user survives.
const FAILURES_ALLOWED: u32 = 5;

/// How long one more locks the user.
const USER_LOCK: SignedDuration = SignedDuration::from_mins(15);

/// Lives that a temporary key may be asked for, in seconds.
const KEY_LIVES: std::ops::RangeInclusive<i64> = 900..=86_400;

/// Life of the keys that machines and pods are given.
const GIVEN_LIFE: SignedDuration = SignedDuration::from_hours(6);

/// Identities that are not users with a password.
#[derive(Debug, Clone, Default)]
pub(super) struct Delegates {
    agencies: BTreeSet<String>,
    machine: Option<String>,
    sessions: BTreeSet<String>,
    pods: BTreeMap<String, String>,
    federated: BTreeMap<(String, String), String>,
}

impl Cloud {
    /// Makes an agency of an account: a principal of its own, which is not the creator of anybody's app. Returns its id.
    pub fn add_agency(&mut self, account_id: &str, name: &str) -> String {
        let id = self.new_id();
        let stored = StoredUser {
            name: name.to_owned(),
            password: String::new(),
            account_id: account_id.to_owned(),
            failures: 0,
            locked_until: None,
        };
        self.identities.users.insert(id.clone(), stored);
        self.identities.delegates.agencies.insert(id.clone());
        id
    }

    /// Lets the metadata service give out keys of an agency or a user.
    pub fn set_machine_identity(&mut self, user_id: &str) {
        self.identities.delegates.machine = Some(user_id.to_owned());
    }

    /// Lets the pod identity agent give out keys of an agency or a user to whoever shows this token.
    pub fn add_pod_identity(&mut self, token: &str, user_id: &str) {
        self.identities
            .delegates
            .pods
            .insert(token.to_owned(), user_id.to_owned());
    }

    /// Makes an identity provider vouch for a user with this token.
    pub fn add_federated(&mut self, provider: &str, id_token: &str, user_id: &str) {
        let key = (provider.to_owned(), id_token.to_owned());
        self.identities.delegates.federated.insert(key, user_id.to_owned());
    }

    pub(super) fn sign_in(&mut self, now: Timestamp, body: &Value) -> Result<Answer, Refusal> {
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str);
        let user = "/auth/identity/password/user";
        let named = (
            text("/auth/identity/methods/0"),
            text(&format!("{user}/domain/name")),
            text(&format!("{user}/name")),
            text(&format!("{user}/password")),
        );
        let (Some("password"), Some(domain), Some(name), Some(password)) = named else {
            return Err(Refusal::iam(400, "0011", "The request body is invalid."));
        };
        let user_id = self.check_password(now, domain, name, password)?;
        let account_id = self
            .identities
            .users
            .get(&user_id)
            .map(|user| user.account_id.clone())
            .unwrap_or_default();
        let project = self.scope(&account_id, body)?;
        let token = self.issue_token(now, &user_id, project.as_deref());
        Ok(self.token_answer(now, &token, &["password"]))
    }

    fn check_password(&mut self, now: Timestamp, domain: &str, name: &str, password: &str) -> Result<String, Refusal> {
        let wrong = || Refusal::iam(401, "0062", "The username or password is wrong.");
        let identities = &mut self.identities;
        let agencies = &identities.delegates.agencies;
        let accounts = &identities.accounts;
        let mut users = identities.users.iter_mut();
        let found = users.find(|(id, user)| {
            let account = accounts.get(&user.account_id);
            user.name == name && account.is_some_and(|account| account == domain) && !agencies.contains(*id)
        });
        let (user_id, user) = found.ok_or_else(wrong)?;
        if user.locked_until.is_some_and(|until| now < until) {
            return Err(Refusal::iam(401, "0061", "The account is locked. Try again later."));
        }
        if user.locked_until.take().is_some() {
            user.failures = 0;
        }
        if user.password == password {
            user.failures = 0;
            return Ok(user_id.clone());
        }
        user.failures += 1;
        if user.failures > FAILURES_ALLOWED {
            user.locked_until = now.checked_add(USER_LOCK).ok();
        }
        Err(wrong())
    }

    /// The project that a body asks for. An account's own project is found by id or name; without a scope there is none.
    fn scope(&self, account_id: &str, body: &Value) -> Result<Option<String>, Refusal> {
        let Some(asked) = body.pointer("/auth/scope/project") else {
            return Ok(None);
        };
        let (id, name) = (
            asked.get("id").and_then(Value::as_str),
            asked.get("name").and_then(Value::as_str),
        );
        let mut projects = self
            .identities
            .projects
            .iter()
            .filter(|(_, project)| project.account_id == account_id);
        let found = projects.find(|(known, project)| match (id, name) {
            (Some(id), _) => *known == id,
            (None, Some(name)) => project.name == name,
            (None, None) => false,
        });
        let found = found.map(|(id, _)| Some(id.clone()));
        found.ok_or_else(|| Refusal::iam(400, "1109", "The project is not found."))
    }

    fn token_answer(&self, now: Timestamp, token: &str, methods: &[&str]) -> Answer {
        let Some(stored) = self.identities.tokens.get(token) else {
            return Answer::empty(500);
        };
        let user = self.identities.users.get(&stored.user_id);
        let account_id = user.map(|user| user.account_id.clone()).unwrap_or_default();
        let domain = json!({"id": account_id, "name": self.identities.accounts.get(&account_id)});
        let mut shown = json!({
            "expires_at": instant(stored.expires_at), "issued_at": instant(now), "methods": methods,
            "user": {
                "id": stored.user_id, "name": user.map(|user| &user.name), "domain": domain, "password_expires_at": "",
            },
            "roles": [{"id": "0", "name": "te_admin"}], "catalog": [],
        });
        let project = stored
            .project
            .as_ref()
            .and_then(|id| Some((id, self.identities.projects.get(id)?)));
        if let (Some((id, project)), Value::Object(fields)) = (project, &mut shown) {
            fields.insert(
                "project".into(),
                json!({"id": id, "name": project.name, "domain": domain}),
            );
        }
        Answer::json(201, &json!({"token": shown})).with_header("X-Subject-Token", token)
    }

    pub(super) fn projects(&self, caller: &Caller, name: Option<&str>) -> Answer {
        let theirs = self
            .identities
            .projects
            .iter()
            .filter(|(_, project)| project.account_id == caller.account_id);
        let named = theirs.filter(|(_, project)| name.is_none_or(|name| project.name == name));
        let shown: Vec<Value> = named
            .map(|(id, project)| {
                json!({
                    "id": id, "name": project.name, "domain_id": project.account_id, "parent_id": project.account_id,
                    "enabled": true, "is_domain": false, "description": "",
                })
            })
            .collect();
        Answer::json(
            200,
            &json!({"projects": shown, "links": {"next": null, "previous": null}}),
        )
    }

    pub(super) fn temporary_key(
        &mut self,
        now: Timestamp,
        body: &Value,
        token: Option<&str>,
    ) -> Result<Answer, Refusal> {
        let identity = body.pointer("/auth/identity").unwrap_or(&Value::Null);
        let token = token.or_else(|| identity.pointer("/token/id").and_then(Value::as_str));
        let unauthenticated = || Refusal::iam(401, "0001", "The request you have made requires authentication.");
        let caller = self
            .authenticate_token(now, token.ok_or_else(unauthenticated)?)
            .map_err(|_| unauthenticated())?;
        let invalid = |text: &str| Refusal::iam(400, "0011", text.to_owned());
        let (asked, user_id) = match identity.pointer("/methods/0").and_then(Value::as_str) {
            Some("token") => (identity.get("token"), caller.user_id),
            Some("assume_role") => {
                let asked = identity.get("assume_role").unwrap_or(&Value::Null);
                (Some(asked), self.agency(asked)?)
            }
            _ => return Err(invalid("The request body is invalid.")),
        };
        let seconds = asked
            .and_then(|asked| asked.get("duration_seconds"))
            .map_or(Some(900), Value::as_i64);
        let seconds = seconds.filter(|seconds| KEY_LIVES.contains(seconds));
        let seconds = seconds.ok_or_else(|| invalid("duration_seconds must be between 900 and 86400."))?;
        let key = self.add_temporary_key(now, &user_id, SignedDuration::from_secs(seconds));
        Ok(Answer::json(201, &credential(&key)))
    }

    fn agency(&self, asked: &Value) -> Result<String, Refusal> {
        let text = |name: &str| asked.get(name).and_then(Value::as_str);
        let mut agencies = self.identities.delegates.agencies.iter();
        let found = agencies.find(|id| {
            let Some(agency) = self.identities.users.get(*id) else {
                return false;
            };
            let domain_fits = match (text("domain_id"), text("domain_name")) {
                (Some(id), _) => agency.account_id == id,
                (None, Some(name)) => self
                    .identities
                    .accounts
                    .get(&agency.account_id)
                    .is_some_and(|known| known == name),
                (None, None) => false,
            };
            domain_fits && text("agency_name") == Some(agency.name.as_str())
        });
        let missing = || Refusal::iam(404, "0004", "Could not find the agency.");
        found.cloned().ok_or_else(missing)
    }

    pub(super) fn id_token(&mut self, now: Timestamp, provider: Option<&str>, body: &Value) -> Result<Answer, Refusal> {
        let shown = body.pointer("/auth/id_token/id").and_then(Value::as_str);
        let (Some(provider), Some(shown)) = (provider, shown) else {
            return Err(Refusal::iam(400, "0011", "The request body is invalid."));
        };
        let key = (provider.to_owned(), shown.to_owned());
        let user_id = self.identities.delegates.federated.get(&key).cloned();
        let user_id = user_id.ok_or_else(|| Refusal::iam(401, "0067", "The ID token is invalid."))?;
        let account_id = self
            .identities
            .users
            .get(&user_id)
            .map(|user| user.account_id.clone())
            .unwrap_or_default();
        let project = self.scope(&account_id, body)?;
        let token = self.issue_token(now, &user_id, project.as_deref());
        Ok(self.token_answer(now, &token, &["mapped"]))
    }

    pub(super) fn metadata_session(&mut self) -> Answer {
        let session = self.new_id();
        self.identities.delegates.sessions.insert(session.clone());
        Answer::text(200, "text/plain", &session)
    }

    pub(super) fn metadata_key(&mut self, now: Timestamp, session: Option<&str>) -> Result<Answer, Refusal> {
        let known = session.is_none_or(|session| self.identities.delegates.sessions.contains(session));
        let machine = self.identities.delegates.machine.clone().filter(|_| known);
        let refused = if known {
            "Please configure Cloud Service Agency first"
        } else {
            "The token is invalid."
        };
        let machine = machine.ok_or_else(|| Refusal::iam(401, "0001", refused))?;
        let key = self.add_temporary_key(now, &machine, GIVEN_LIFE);
        Ok(Answer::json(200, &credential(&key)))
    }

    pub(super) fn pod_identity(&mut self, now: Timestamp, authorization: Option<&str>) -> Result<Answer, Refusal> {
        let user_id = authorization
            .and_then(|token| self.identities.delegates.pods.get(token))
            .cloned();
        let user_id = user_id.ok_or_else(|| Refusal::iam(401, "0001", "The authorization token is invalid."))?;
        let key = self.add_temporary_key(now, &user_id, GIVEN_LIFE);
        let name = self
            .identities
            .users
            .get(&user_id)
            .map(|user| user.name.clone())
            .unwrap_or_default();
        let body = json!({
            "assumedAgency": {"urn": format!("sts::assumed-agency:{name}"), "id": user_id},
            "audience": "pods.cce.cloud", "podIdentityAssociationId": self.new_id(),
            "subject": {"namespace": "default", "serviceAccount": "default"},
            "credentials": {
                "accessKeyId": key.ak, "secretAccessKey": key.sk, "securityToken": key.security_token,
                "expiration": instant(key.expires_at),
            },
        });
        Ok(Answer::json(200, &body))
    }
}

fn credential(key: &TemporaryKey) -> Value {
    json!({"credential": {
        "access": key.ak, "secret": key.sk, "securitytoken": key.security_token, "expires_at": instant(key.expires_at),
    }})
}

/// As IAM writes times: always with six digits of a second.
fn instant(time: Timestamp) -> String {
    format!("{time:.6}")
}
