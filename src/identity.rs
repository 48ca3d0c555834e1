//! The operator's own identity towards the cloud, for resources that name no credentials.
//!
//! Whoever may write such a resource acts with rights that are not theirs. So it is used only for pairs of namespace and
//! app that the operator's administrator has named, and a resource outside of them causes no call.

use std::path::PathBuf;
use std::str::FromStr;

use crate::ids::AppId;
use crate::modelarts::{Caller, Credentials};

/// A namespace whose resources may rotate an app with the operator's own identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The namespace.
    pub namespace: String,
    /// The app.
    pub app_id: AppId,
}

/// Why a text is no allowance.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it must be NAMESPACE=APP_ID")]
pub struct BadAllowance;

impl FromStr for Allowance {
    type Err = BadAllowance;

    fn from_str(text: &str) -> Result<Self, BadAllowance> {
        let (namespace, app) = text.split_once('=').ok_or(BadAllowance)?;
        let app_id = AppId::parse(app).map_err(|_| BadAllowance)?;
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if namespace.is_empty() || !namespace.chars().all(is_name) {
            return Err(BadAllowance);
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            app_id,
        })
    }
}

/// Where the operator's own credentials come from.
#[derive(Clone, Debug, Default)]
pub enum Identity {
    /// It has none.
    #[default]
    None,
    /// Files in a directory, named as the keys of a credentials Secret; read for each use, so that they can be replaced.
    Directory(PathBuf),
    /// Variables of its environment.
    Fixed(Credentials),
}

impl Identity {
    /// The operator as a caller; or what its credentials lack, for the administrator.
    ///
    /// # Errors
    /// When there are none or they are incomplete.
    pub fn caller(&self) -> Result<Caller, String> {
        let (credentials, version) = match self {
            Self::None => {
                return Err("there are none".into());
            }
            Self::Fixed(credentials) => (Some(credentials.clone()), String::new()),
            Self::Directory(directory) => {
                let read = |name: &str| std::fs::read_to_string(directory.join(name)).ok();
                // A mounted Secret is replaced as a whole, so the time of any file tells of a new version.
                let time = |name: &&str| {
                    std::fs::metadata(directory.join(name))
                        .and_then(|meta| meta.modified())
                        .ok()
                };
                let times: Vec<_> = ["accessKey", "password", "token"].iter().filter_map(time).collect();
                (Credentials::from_fields(read), format!("{times:?}"))
            }
        };
        let credentials = credentials.ok_or(Credentials::FIELDS)?;
        Ok(Caller {
            source: "operator".into(),
            version,
            credentials,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_names_one_namespace_and_one_app() {
        let allowance: Allowance = "inference=5d0c7a52b3f64e0f9a1c2b3d4e5f6071".parse().unwrap();
        assert_eq!(allowance.namespace, "inference");
        for bad in ["", "inference", "=app", "inference=", "*=app", "In=app", "a=b/c"] {
            assert_eq!(bad.parse::<Allowance>(), Err(BadAllowance), "{bad}");
        }
    }

    #[test]
    fn a_directory_is_read_for_each_use() {
        let directory = tempfile::tempdir().unwrap();
        let identity = Identity::Directory(directory.path().into());
        assert!(identity.caller().unwrap_err().contains("accessKey and secretKey"));
        std::fs::write(directory.path().join("accessKey"), "key\n").unwrap();
        std::fs::write(directory.path().join("secretKey"), "canary-secret\n").unwrap();
        let caller = identity.caller().unwrap();
        assert!(matches!(&caller.credentials, Credentials::Keys { access_key, .. } if access_key == "key"));
        assert!(!format!("{identity:?}{caller:?}").contains("canary"));
    }
}
