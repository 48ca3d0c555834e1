//! Stops of resources that use the operator's own credentials. Those are one thing, so one case at a time has them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use appcode_operator::api::{AppCodeRotation, Reason};
use cloud_simulator::{App, User};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::case::{Case, NAME};

/// The cases that use them.
pub const CASES: [(Reason, usize); 4] = [
    (Reason::CredentialsMissing, 3),
    (Reason::CredentialsRejected, 2),
    (Reason::CredentialsRejected, 3),
    (Reason::NotAuthorized, 1),
];

/// Where the operator's pod is.
const BESIDE_OPERATOR: &str = "appcode-system";

/// The directory that the operator's own credentials are mounted at.
pub struct Own {
    directory: PathBuf,
    version: usize,
}

impl Own {
    pub fn new(folder: &Path) -> Self {
        let mut own = Self {
            directory: folder.join("own"),
            version: 0,
        };
        own.mount(&BTreeMap::new());
        own
    }

    pub fn flags(&self, apps: &BTreeMap<String, App>) -> Vec<String> {
        let allow = |(namespace, app): (&String, &App)| format!("--allow-default-identity={namespace}={}", app.app_id);
        let directory = format!("--default-credentials-dir={}", self.directory.display());
        apps.iter().map(allow).chain([directory]).collect()
    }

    /// Changes all files at once, as a kubelet does.
    fn mount(&mut self, files: &BTreeMap<String, Vec<u8>>) {
        self.version += 1;
        let name = |part: &str| self.directory.with_file_name(format!("own-{part}"));
        let (data, link) = (name(&self.version.to_string()), name("next"));
        fs::create_dir(&data).unwrap();
        for (name, bytes) in files {
            fs::write(data.join(name), bytes).unwrap();
        }
        symlink(&data, &link).unwrap();
        fs::rename(&link, &self.directory).unwrap();
    }

    /// Brings a Secret beside the operator to its pod.
    async fn mount_secret(&mut self, secrets: &Api<Secret>, name: &str) {
        let data = secrets.get(name).await.unwrap().data.unwrap_or_default();
        self.mount(&data.into_iter().map(|(key, value)| (key, value.0)).collect());
    }
}

/// A Secret with the operator's own credentials is made with `texts`, a resource stops for it, the page is followed, and the
/// Secret is brought to the operator if that has corrected it.
async fn play(mut case: Case, texts: Value, concerned: &str, is_corrected: bool) {
    let suite = case.shared_suite();
    let mut own = suite.own.lock().await;
    let secrets: Api<Secret> = Api::namespaced(case.client(), BESIDE_OPERATOR);
    let name = format!("own-{}", case.namespace());
    case.apply_secret(BESIDE_OPERATOR, &name, texts).await;
    own.mount_secret(&secrets, &name).await;
    let app = &suite.own_apps[case.namespace()];
    case.open().await;
    case.rotation(NAME, &app.app_id, json!({"credentialsRef": null})).await;
    case.stops(&["he operator's own credentials", concerned], "spec.credentialsRef")
        .await;
    case.assert_unchanged(app);
    case.word("OPERATOR_CREDENTIALS", &name);
    case.files_of(&suite.stage.user);
    case.follow().await;
    let _own = if is_corrected {
        own.mount_secret(&secrets, &name).await;
        Some(own)
    } else {
        drop(own); // the next one may have them
        None
    };
    case.ends(NAME, NAME, &app.app_id, 0).await;
    case.assert_kept(BESIDE_OPERATOR, &name, &["accessKey"]).await;
    // What the next one does to the credentials is no matter of this one.
    let resources = case.api::<AppCodeRotation>();
    resources.delete(NAME, &DeleteParams::default()).await.unwrap();
}

fn keys(user: &User) -> Value {
    json!({"accessKey": user.ak, "secretKey": user.sk})
}

fn wrong() -> Value {
    json!({"accessKey": "no-such-key", "secretKey": "no-such-secret"})
}

pub async fn completed(case: Case) {
    play(
        case,
        json!({"accessKey": "alone"}),
        "administrator has to correct",
        true,
    )
    .await;
}

pub async fn not_used(case: Case) {
    play(case, wrong(), "administrator has to correct", false).await;
}

pub async fn corrected(case: Case) {
    play(case, wrong(), "administrator has to correct", true).await;
}

pub async fn of_another_user(case: Case) {
    let strangers = keys(&case.suite().stranger);
    play(case, strangers, "may not act", true).await;
}
