//! The state of a cluster and its cloud as files, and back. Whatever differs from run to run is put in anew: addresses, times,
//! uids.

use std::fs;
use std::path::Path;

use cloud_simulator::{App, NewApp};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::stage::Stage;

/// Where all resources are.
pub const NAMESPACE: &str = "a";
/// Stands for the address of the cloud.
const ENDPOINT: &str = "https://cloud.invalid";
/// Stands for the project.
const PROJECT: &str = "00000000000000000000000000000000";

/// An app as it was.
#[derive(Serialize, Deserialize)]
struct Known {
    /// The resource that it belongs to.
    resource: String,
    id: String,
    codes: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    /// When it was recorded; all times are moved by how long ago that is.
    recorded_at: Timestamp,
    apps: Vec<Known>,
    /// With their status.
    resources: Vec<Value>,
    secrets: Vec<Value>,
}

/// What a version left behind.
pub struct Recording {
    definition: Value,
    state: State,
}

/// The definition as `deploy/` has it.
fn definition() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds/appcoderotations.yaml");
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// What is not the server's own.
fn kept(mut object: Value) -> Value {
    let meta = object["metadata"].as_object_mut().unwrap();
    let keep = [
        "name",
        "namespace",
        "labels",
        "annotations",
        "finalizers",
        "generation",
        "uid",
    ];
    meta.retain(|field, _| keep.contains(&field.as_str()));
    if let Some(annotations) = meta.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    object
}

/// The text of `value` with what `change` makes of it.
fn rewritten(value: &Value, change: impl FnOnce(String) -> String) -> Value {
    serde_json::from_str(&change(value.to_string())).expect("still JSON")
}

/// Moves every time in a text.
fn moved(text: &str, by: SignedDuration) -> String {
    let is_of_time = |c: char| c.is_ascii_digit() || "-:.TZ".contains(c);
    let (mut out, mut rest) = (String::new(), text);
    while let Some(start) = rest.find(is_of_time) {
        let (before, from) = rest.split_at(start);
        let (token, after) = from.split_at(from.find(|c| !is_of_time(c)).unwrap_or(from.len()));
        out.push_str(before);
        match token.parse::<Timestamp>() {
            Ok(time) if token.len() >= 20 => out.push_str(&(time + by).to_string()),
            _ => out.push_str(token),
        }
        rest = after;
    }
    out + rest
}

impl Recording {
    /// What is in a cluster whose operator was ended.
    pub fn of(stage: &Stage, apps: &[(&str, App)]) -> Self {
        let hidden = |value: Value| {
            rewritten(&kept(value), |text| {
                text.replace(&stage.cloud.url(), ENDPOINT)
                    .replace(&stage.project, PROJECT)
            })
        };
        let known = apps.iter().map(|(name, app)| Known {
            resource: (*name).to_owned(),
            id: app.app_id.clone(),
            codes: stage.cloud.live_codes(&app.app_id),
        });
        Self {
            definition: definition(),
            state: State {
                recorded_at: Timestamp::now(),
                apps: known.collect(),
                resources: apps.iter().map(|(name, _)| hidden(stage.resource(name))).collect(),
                secrets: apps.iter().map(|(name, _)| hidden(stage.target(name))).collect(),
            },
        }
    }

    /// Reads what [`Recording::save`] wrote.
    pub fn read(folder: &Path) -> Self {
        let read = |name: &str| fs::read_to_string(folder.join(name)).expect("the recording can be read");
        Self {
            definition: serde_saphyr::from_str(&read("definition.yaml")).expect("a definition"),
            state: serde_saphyr::from_str(&read("state.yaml")).expect("a state"),
        }
    }

    /// Writes it into a folder.
    pub fn save(&self, folder: &Path) {
        fs::create_dir_all(folder).expect("the folder can be made");
        let write =
            |name: &str, text: String| fs::write(folder.join(name), text).expect("the recording can be written");
        write(
            "definition.yaml",
            serde_saphyr::to_string(&self.definition).expect("YAML"),
        );
        write("state.yaml", serde_saphyr::to_string(&self.state).expect("YAML"));
    }

    /// Names of the resources.
    pub fn resources(&self) -> Vec<String> {
        self.state.apps.iter().map(|app| app.resource.clone()).collect()
    }

    /// The app of a resource.
    pub fn app(&self, resource: &str) -> &str {
        let mut apps = self.state.apps.iter();
        &apps.find(|app| app.resource == resource).expect("a known resource").id
    }

    /// The status that a resource had.
    pub fn status(&self, resource: &str) -> &Value {
        let mut resources = self.state.resources.iter();
        &resources
            .find(|it| it["metadata"]["name"] == resource)
            .expect("a known resource")["status"]
    }

    /// Installs the definition of that version.
    pub fn apply_definition(&self, stage: &Stage) {
        stage.apply(&self.definition);
        stage.kubectl(&[
            "wait",
            "--for=condition=Established",
            "crd/appcoderotations.appcode.dev",
            "--timeout=60s",
        ]);
    }

    /// Puts all of it into a fresh cluster and cloud.
    pub fn load(&self, stage: &Stage) {
        self.apply_definition(stage);
        for app in &self.state.apps {
            let new = NewApp::of(&stage.user.user_id, &stage.project).id(&app.id);
            stage
                .cloud
                .create_app(&app.codes.iter().fold(new, |new, code| new.code(code)));
        }
        let by = Timestamp::now().duration_since(self.state.recorded_at);
        let shown = |value: &Value| {
            rewritten(value, |text| {
                moved(&text, by)
                    .replace(ENDPOINT, &stage.cloud.url())
                    .replace(PROJECT, &stage.project)
            })
        };
        let create = |object: &Value| {
            let text = stage.send(
                &["create", "--validate=false", "-o", "json", "-f", "-"],
                &object.to_string(),
            );
            serde_json::from_str::<Value>(&text).expect("kubectl prints JSON")
        };
        for (resource, secret) in self.state.resources.iter().zip(&self.state.secrets) {
            let (resource, secret) = (shown(resource), shown(secret));
            let uid = resource["metadata"]["uid"].as_str().expect("a uid").to_owned();
            let made = create(&stripped(&resource));
            let new_uid = made["metadata"]["uid"].as_str().expect("a uid");
            // The intent and the status name them; a fresh object begins with the first generation.
            let resource = rewritten(&resource, |text| text.replace(&uid, new_uid));
            let secret = rewritten(&secret, |text| text.replace(&uid, new_uid));
            let mut status = resource["status"].clone();
            status["observedGeneration"] = json!(1);
            for condition in status["conditions"].as_array_mut().into_iter().flatten() {
                condition["observedGeneration"] = json!(1);
            }
            let mut whole = made.clone();
            whole["status"] = status;
            let name = made["metadata"]["name"].as_str().expect("a name");
            let path = format!("/apis/appcode.dev/v1alpha1/namespaces/{NAMESPACE}/appcoderotations/{name}/status");
            stage.send(&["replace", "--raw", &path, "-f", "-"], &whole.to_string());
            create(&stripped(&secret));
        }
    }
}

/// As it can be created.
fn stripped(object: &Value) -> Value {
    let mut object = object.clone();
    object.as_object_mut().expect("an object").remove("status");
    let meta = object["metadata"].as_object_mut().expect("an object");
    meta.remove("uid");
    meta.remove("generation");
    object
}
