//! The vendor's OpenAPI definitions against what is really served: paths, methods, parameters, statuses, fields, types.

use std::path::{Path, PathBuf};
use std::process::Command;

use cloud_simulator::{Operation, Options, Request};
use serde_json::{Map, Value, json};

use crate::bench::{Bench, Seen, Signer};

const PACKAGE: &str = "huawei-cloud-api-definitions-ModelArts";

/// The definition of an operation. The package keeps them beside its code and hands out types only.
fn definition(folder: &Path, operation: &str) -> Value {
    let text = std::fs::read_to_string(folder.join(format!("src/{operation}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Where cargo unpacked the package. Asked for this machine's platform only, so that nothing needs to be downloaded.
fn definitions_folder() -> PathBuf {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = run(Command::new(rustc).arg("-vV"));
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    let cargo = cargo.args(["metadata", "--format-version=1", "--offline", "--filter-platform", host]);
    let metadata: Value = serde_json::from_str(&run(cargo.current_dir(env!("CARGO_MANIFEST_DIR")))).unwrap();
    let mut packages = metadata["packages"].as_array().unwrap().iter();
    let package = packages.find(|package| package["name"] == PACKAGE).unwrap();
    Path::new(package["manifest_path"].as_str().unwrap())
        .parent()
        .unwrap()
        .to_owned()
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A definition with its one operation taken out.
struct Defined {
    name: &'static str,
    path: String,
    method: String,
    operation: Value,
    schemas: Value,
}

impl Defined {
    fn read(folder: &Path, name: &'static str) -> Self {
        let whole = definition(folder, name);
        let (path, methods) = whole["paths"].as_object().unwrap().iter().next().unwrap();
        let (method, operation) = methods.as_object().unwrap().iter().next().unwrap();
        assert_eq!(operation["operationId"], name);
        Self {
            name,
            path: path.clone(),
            method: method.to_uppercase(),
            operation: operation.clone(),
            schemas: whole["definitions"].clone(),
        }
    }

    fn parameters(&self, place: &str) -> Vec<&Map<String, Value>> {
        let all = self.operation["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_object);
        all.filter(|parameter| parameter.get("in").and_then(Value::as_str) == Some(place))
            .collect()
    }

    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => &self.schemas[reference.strip_prefix("#/definitions/").unwrap()],
            None => schema,
        }
    }

    /// The path with the bench's values in place of its parameters.
    fn target(&self, bench: &Bench, extra: &[(&str, &str)]) -> String {
        let mut path = self.path.clone();
        let known = [
            ("project_id", bench.project.as_str()),
            ("app_id", &bench.app.app_id),
            ("app_name", &bench.app.app_name),
        ];
        for (name, value) in known.iter().chain(extra) {
            path = path.replace(&format!("{{{name}}}"), value);
        }
        assert!(!path.contains('{'), "{}: {path}", self.name);
        path
    }

    /// Every query parameter of the definition, with a value that its type allows.
    fn query(&self, bench: &Bench) -> String {
        let value = |name: &str| match name {
            "limit" => "10",
            "order" => "asc",
            "sort_by" => "created_at",
            "app_name" => "app_",
            "service_name" => "mnist",
            "iphertext_enabled" => "true",
            "app_ids" => &bench.app.app_id,
            "workspace_id" | "offset" => "0",
            other => panic!("{}: no value for {other}", self.name),
        };
        let names = self.parameters("query");
        let names = names.iter().map(|parameter| parameter["name"].as_str().unwrap());
        let pairs: Vec<String> = names.map(|name| format!("{name}={}", value(name))).collect();
        if pairs.is_empty() {
            String::new()
        } else {
            format!("?{}", pairs.join("&"))
        }
    }

    /// The body that the definition describes, with its required fields alone or with all of them.
    fn body(&self, bench: &Bench, whole: bool) -> Option<Value> {
        let parameter = *self.parameters("body").first()?;
        let schema = self.resolve(&parameter["schema"]);
        let required: Vec<&str> = schema["required"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let fields = schema["properties"].as_object().unwrap().keys();
        let wanted = fields.filter(|name| whole || required.contains(&name.as_str()));
        let value = |name: &str| match name {
            "app_name" => json!(if self.name == "CreateApigApp" {
                "app_created"
            } else {
                bench.app.app_name.as_str()
            }),
            "app_remark" => json!("a remark"),
            "workspace_id" => json!("0"),
            "apps" => json!([{"app_id": bench.app.app_id}]),
            other => panic!("{}: no value for {other}", self.name),
        };
        Some(Value::Object(wanted.map(|name| (name.clone(), value(name))).collect()))
    }

    /// An answer has a documented status, and a body that its schema describes and nothing else.
    fn check(&self, seen: &Seen) {
        let documented = &self.operation["responses"][seen.status.to_string()];
        assert!(
            documented.is_object(),
            "{}: {} is not documented: {}",
            self.name,
            seen.status,
            seen.text
        );
        match documented.get("schema").filter(|schema| !schema.is_null()) {
            Some(schema) => self.check_value(schema, &seen.body, self.name),
            None => assert_eq!(seen.text, "", "{}", self.name),
        }
    }

    fn check_value(&self, schema: &Value, value: &Value, place: &str) {
        let schema = self.resolve(schema);
        match schema["type"].as_str() {
            Some("object") => self.check_object(schema, value, place),
            None if schema["properties"].is_object() => self.check_object(schema, value, place),
            Some("array") => {
                for item in value.as_array().unwrap_or_else(|| panic!("{place}: {value}")) {
                    self.check_value(&schema["items"], item, place);
                }
            }
            Some("string") => assert!(value.is_string(), "{place}: {value}"),
            Some("boolean") => assert!(value.is_boolean(), "{place}: {value}"),
            Some("integer") => {
                let number = value.as_i64().unwrap_or_else(|| panic!("{place}: {value}"));
                assert!(
                    schema["format"] != "int32" || i32::try_from(number).is_ok(),
                    "{place}: {number}"
                );
            }
            other => panic!("{place}: a schema of type {other:?}"),
        }
    }

    fn check_object(&self, schema: &Value, value: &Value, place: &str) {
        let fields = value.as_object().unwrap_or_else(|| panic!("{place}: {value}"));
        for (name, field) in fields {
            // The front gateway adds this one to the service's two.
            if place == format!("{}.error", self.name) && name == "request_id" {
                continue;
            }
            let described = &schema["properties"][name];
            assert!(described.is_object(), "{place}: nothing is said of {name}");
            self.check_value(described, field, &format!("{place}.{name}"));
        }
        for name in schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            assert!(fields.contains_key(name), "{place}: {name} is required");
        }
    }

    fn check_refusal(&self, seen: &Seen) {
        let documented = &self.operation["responses"][seen.status.to_string()]["schema"];
        assert!(
            documented.is_object(),
            "{}: {} is not documented: {}",
            self.name,
            seen.status,
            seen.text
        );
        self.check_object(self.resolve(documented), &seen.body, &format!("{}.error", self.name));
    }
}

/// Every operation that is served, in an order in which each finds what it needs.
const SERVED: &[(&str, Operation)] = &[
    ("ListApigApps", Operation::List),
    ("CreateApigApp", Operation::Create),
    ("ShowApigApp", Operation::Show),
    ("ApigAppExists", Operation::Exists),
    ("CreateApigAppCode", Operation::Add),
    ("ResetApigAppCode", Operation::Reset),
    ("DeleteApigAppCode", Operation::Delete),
    ("ResetApigAppSecret", Operation::ResetSecret),
    ("AuthorizeApiToApigApps", Operation::Authorize),
    ("ShowApisBindToApp", Operation::BoundApis),
    ("DeleteApiAppAuth", Operation::Unauthorize),
    ("DeleteApigApp", Operation::DeleteApp),
];

async fn bench() -> (Bench, Vec<Defined>, [String; 2]) {
    let folder = definitions_folder();
    let defined = SERVED.iter().map(|(name, _)| Defined::read(&folder, name)).collect();
    let bench = Bench::with(Options::default(), |app| app.codes(2)).await;
    let service = bench.sim.add_service(&bench.user.user_id, &bench.project, "mnist");
    (bench, defined, [service.service_id, service.api_id])
}

#[tokio::test]
async fn serves_what_the_definitions_describe() {
    let (bench, defined, [service, api]) = bench().await;
    for (defined, (name, operation)) in defined.iter().zip(SERVED) {
        for whole in [true, false] {
            let code = bench
                .sim
                .live_codes(&bench.app.app_id)
                .first()
                .cloned()
                .unwrap_or_default();
            let target = defined.target(
                &bench,
                &[("app_code", &code), ("service_id", &service), ("api_id", &api)],
            );
            let target = if whole { target + &defined.query(&bench) } else { target };
            let needs_another = !whole && ["CreateApigApp", "DeleteApigApp"].contains(name);
            let seen = if needs_another {
                continue;
            } else {
                bench
                    .call(&defined.method, &target, defined.body(&bench, whole).as_ref())
                    .await
            };
            assert_eq!(seen.status, 200, "{name}: {seen:?}");
            defined.check(&seen);
            assert_eq!(bench.sim.ledger().requests.last().unwrap().operation, *operation);
        }
    }
}

#[tokio::test]
async fn says_everything_that_the_definitions_say_of_an_app() {
    let (bench, defined, _) = bench().await;
    let show = defined.iter().find(|defined| defined.name == "ShowApigApp").unwrap();
    let seen = bench.show().await;
    let described = show.schemas["ApigAppDetailInfo"]["properties"].as_object().unwrap();
    let missing: Vec<&String> = described
        .keys()
        .filter(|name| seen.body["app"].get(*name).is_none())
        .collect();
    assert_eq!(missing, Vec::<&String>::new());
}

#[tokio::test]
async fn refuses_with_documented_statuses_and_fields() {
    let (bench, defined, [service, api]) = bench().await;
    let wrong = Signer {
        sk: "wrong".into(),
        ..bench.signer()
    };
    let elsewhere = Signer {
        project: Some(bench.sim.add_project(&bench.user.account_id, "cn-east-3")),
        ..bench.signer()
    };
    for defined in &defined {
        let target = defined.target(
            &bench,
            &[("app_code", "any"), ("service_id", &service), ("api_id", &api)],
        );
        let body = defined
            .body(&bench, true)
            .map(|body| body.to_string())
            .unwrap_or_default();
        let request = Request::new(&defined.method, &target).body(body);
        for (signer, status) in [(&wrong, 401), (&elsewhere, 403)] {
            let seen = bench.send(signer.sign(&bench.sim, request.clone())).await.unwrap();
            assert_eq!(seen.status, status, "{}: {seen:?}", defined.name);
            defined.check_refusal(&seen);
        }
        let has_app = defined.path.contains("{app_id}") && defined.operation["responses"]["404"].is_object();
        if has_app {
            let seen = bench
                .signed(Request {
                    target: target.replace(&bench.app.app_id, "missing"),
                    ..request
                })
                .await
                .unwrap();
            assert_eq!(seen.status, 404, "{}: {seen:?}", defined.name);
            defined.check_refusal(&seen);
        }
    }
}

#[tokio::test]
async fn demands_what_the_definitions_require() {
    let (bench, defined, [service, api]) = bench().await;
    for defined in &defined {
        assert!(
            defined
                .parameters("path")
                .iter()
                .all(|parameter| parameter["required"] == true)
        );
        assert!(
            defined
                .parameters("query")
                .iter()
                .all(|parameter| parameter["required"] == false)
        );
        if defined.body(&bench, false).is_some() {
            let code = bench.app.codes[0].as_str();
            let target = defined.target(
                &bench,
                &[("app_code", code), ("service_id", &service), ("api_id", &api)],
            );
            let seen = bench
                .call(&defined.method, &target, Some(&json!({"workspace_id": "0"})))
                .await;
            assert_eq!((seen.status, seen.code()), (400, "ModelArts.0104"), "{}", defined.name);
        }
    }
    assert_eq!(
        bench
            .sim
            .ledger()
            .requests
            .iter()
            .filter(|entry| entry.had_effect)
            .count(),
        0
    );
}
