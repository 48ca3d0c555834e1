//! What a control plane is told at its start, and the files that tell it.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::Error;

/// The identity that is always there, in `system:masters`.
pub(crate) const ADMIN: &str = "admin";

/// How a control plane is started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who may sign in, besides the administrator. RBAC grants them nothing that is not bound to them.
    pub identities: Vec<Identity>,
    /// Whether the server writes an audit log: see [`ControlPlane::audit_log`](crate::ControlPlane::audit_log).
    /// Default: no.
    pub audit: bool,
    /// Whether the controller manager runs. Without it nothing collects garbage, empties a namespace that is being
    /// deleted, makes service accounts, or makes pods of workloads. Default: yes.
    pub controller_manager: bool,
    /// Further arguments of kube-apiserver; of an argument given twice the last counts.
    pub extra_apiserver_args: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            identities: Vec::new(),
            audit: false,
            controller_manager: true,
            extra_apiserver_args: Vec::new(),
        }
    }
}

/// Who signs in with a token of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The user's name, as RBAC subjects have it.
    pub user: String,
    /// The groups that the user is in; the server adds `system:authenticated`.
    pub groups: Vec<String>,
}

impl Identity {
    /// The identity of a service account as the server sees it when a pod signs in. RBAC subjects of the kind
    /// `ServiceAccount` apply to it; the account itself need not exist.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        Self {
            user: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
        }
    }

    pub(crate) fn admin() -> Self {
        Self {
            user: ADMIN.to_owned(),
            groups: vec!["system:masters".to_owned()],
        }
    }
}

/// One line of the server's token file.
pub(crate) fn token_line(token: &str, identity: &Identity) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let user = quoted(&identity.user);
    format!("{token},{user},{user},{}\n", quoted(&identity.groups.join(",")))
}

/// Who did what to which object, without bodies, so that no Secret's data is in it. Only the final stages: one line for
/// one request.
pub(crate) fn audit_policy() -> serde_json::Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{ "level": "Metadata" }],
    })
}

/// A kubeconfig; JSON is YAML too.
pub(crate) fn kubeconfig(server: &str, ca: &str, user: &str, token: &str) -> serde_json::Value {
    let name = "control-plane";
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": name, "cluster": { "server": server, "certificate-authority-data": STANDARD.encode(ca) } }],
        "users": [{ "name": user, "user": { "token": token } }],
        "contexts": [{ "name": name, "context": { "cluster": name, "user": user } }],
        "current-context": name,
    })
}

/// 128 random bits as text.
pub(crate) fn random_token() -> Result<String, Error> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0; 16];
    File::open(source)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(Error::file("read", source))?;
    Ok(hex(&bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// An argument `--name=path`.
pub(crate) fn setting(name: &str, path: &Path) -> OsString {
    let mut argument = OsString::from(format!("--{name}="));
    argument.push(path);
    argument
}

pub(crate) fn write_json(path: &Path, value: &serde_json::Value) -> Result<(), Error> {
    fs::write(path, format!("{value:#}\n")).map_err(Error::file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_one_token_line_however_the_user_is_named() {
        let identity = Identity {
            user: "a \"b\", c".to_owned(),
            groups: vec!["g".to_owned(), "h".to_owned()],
        };
        assert_eq!(
            token_line("t", &identity),
            "t,\"a \"\"b\"\", c\",\"a \"\"b\"\", c\",\"g,h\"\n"
        );
    }

    #[test]
    fn draws_a_new_token_each_time() {
        assert_ne!(random_token().unwrap(), random_token().unwrap());
    }
}
