//! A cloud with one tenant, and a client that signs.

use std::time::Duration;

use cloud_simulator::auth;
use cloud_simulator::{App, NewApp, Options, Request, Simulator, User};
use reqwest::Method;
use serde_json::{Value, json};

pub struct Bench {
    pub sim: Simulator,
    pub user: User,
    pub project: String,
    pub app: App,
}

/// What a client saw.
#[derive(Debug)]
pub struct Seen {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    pub body: Value,
}

impl Seen {
    pub fn code(&self) -> &str {
        self.body["error_code"].as_str().unwrap_or_default()
    }

    pub fn message(&self) -> &str {
        self.body["error_msg"].as_str().unwrap_or_default()
    }

    pub fn codes(&self) -> Vec<String> {
        let mut codes: Vec<String> = serde_json::from_value(self.body["app"]["app_codes"].clone()).unwrap();
        codes.sort();
        codes
    }
}

/// How to sign, everything right by default.
#[derive(Clone)]
pub struct Signer {
    pub ak: String,
    pub sk: String,
    pub project: Option<String>,
    pub security_token: Option<String>,
    pub date: Option<String>,
}

impl Signer {
    pub fn of(user: &User, project: &str) -> Self {
        Self {
            ak: user.ak.clone(),
            sk: user.sk.clone(),
            project: Some(project.to_owned()),
            security_token: None,
            date: None,
        }
    }

    pub fn sign(&self, sim: &Simulator, mut request: Request) -> Request {
        let date = self.date.clone().unwrap_or_else(|| auth::format_date(sim.now()));
        request = request
            .header("host", &sim.address().to_string())
            .header("x-sdk-date", &date);
        let mut signed = vec!["host", "x-sdk-date"];
        if let Some(project) = &self.project {
            request = request.header("x-project-id", project);
            signed.push("x-project-id");
        }
        if let Some(token) = &self.security_token {
            request = request.header("x-security-token", token);
            signed.push("x-security-token");
        }
        signed.sort_unstable();
        let signed: Vec<String> = signed.into_iter().map(str::to_owned).collect();
        let canonical = auth::canonical_request(&request, &signed);
        let signature = auth::signature(&self.sk, &auth::string_to_sign(&date, &canonical));
        let (algorithm, ak, signed) = (auth::ALGORITHM, &self.ak, signed.join(";"));
        let value = format!("{algorithm} Access={ak}, SignedHeaders={signed}, Signature={signature}");
        request.header("authorization", &value)
    }
}

impl Bench {
    pub async fn new() -> Self {
        Self::with(Options::default(), |app| app.codes(1)).await
    }

    pub async fn with(options: Options, app: impl FnOnce(NewApp) -> NewApp) -> Self {
        let sim = Simulator::start(options).await.unwrap();
        let (user, project) = sim.add_tenant("acme");
        let app = sim.create_app(app(NewApp::of(&user.user_id, &project).name("app_demo").remark("demo")));
        Self {
            sim,
            user,
            project,
            app,
        }
    }

    pub fn signer(&self) -> Signer {
        Signer::of(&self.user, &self.project)
    }

    pub fn path(&self, rest: &str) -> String {
        format!("/v1/{}/app-auth/apps{rest}", self.project)
    }

    pub fn app_path(&self, rest: &str) -> String {
        self.path(&format!("/{}{rest}", self.app.app_id))
    }

    pub fn body(&self) -> Value {
        json!({"app_name": self.app.app_name, "app_remark": self.app.app_remark, "workspace_id": "0"})
    }

    /// Sends as it is.
    pub async fn send(&self, request: Request) -> Result<Seen, reqwest::Error> {
        send(&self.sim, request).await
    }

    /// Signs as the owner and sends.
    pub async fn signed(&self, request: Request) -> Result<Seen, reqwest::Error> {
        self.send(self.signer().sign(&self.sim, request)).await
    }

    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Seen {
        self.try_call(method, path, body).await.unwrap()
    }

    pub async fn try_call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Seen, reqwest::Error> {
        let mut request = Request::new(method, path).header("content-type", "application/json");
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        self.signed(request).await
    }

    pub async fn show(&self) -> Seen {
        self.call("GET", &self.app_path("?iphertext_enabled=true"), None).await
    }

    pub async fn reset(&self, code: &str) -> Seen {
        self.try_reset(code).await.unwrap()
    }

    pub async fn try_reset(&self, code: &str) -> Result<Seen, reqwest::Error> {
        let path = self.app_path(&format!("/app-code/{}", cloud_simulator::wire::encode(code)));
        self.try_call("PUT", &path, Some(&self.body())).await
    }

    pub async fn add(&self) -> Seen {
        self.call("POST", &self.app_path("/app-code"), Some(&self.body())).await
    }

    pub async fn delete(&self, code: &str) -> Seen {
        let path = self.app_path(&format!("/app-code/{}", cloud_simulator::wire::encode(code)));
        self.call("DELETE", &path, None).await
    }

    pub fn code(&self) -> String {
        self.app.codes[0].clone()
    }
}

pub async fn send(sim: &Simulator, request: Request) -> Result<Seen, reqwest::Error> {
    let client = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(0);
    let client = client
        .retry(reqwest::retry::never())
        .redirect(reqwest::redirect::Policy::none());
    let client = client.timeout(Duration::from_secs(20)).build().unwrap();
    let method = Method::from_bytes(request.method.as_bytes()).unwrap();
    let mut outgoing = client.request(method, format!("{}{}", sim.url(), request.target));
    for (name, value) in &request.headers {
        outgoing = outgoing.header(name, value);
    }
    let answer = outgoing.body(request.body).send().await?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = answer.text().await?;
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Ok(Seen {
        status,
        headers,
        text,
        body,
    })
}
