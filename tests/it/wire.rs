//! The cloud client and the prober on the wire: what they send, what they make of answers, and what they never do.

mod errors;
mod hostile;
mod once;
mod probe;
mod requests;
pub mod server;
mod simulated;
mod tls;
mod tokens;
mod trace;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use appcode_operator::clock::Clock;
use appcode_operator::ids::{AppId, AppIdentity, ProjectId, WorkspaceId};
use appcode_operator::modelarts::{
    AppCode, AppCodes, Caller, CloudError, Credentials, Echo, Endpoint, HttpAppCodes, HttpOptions, Target,
};
use async_trait::async_trait;
use jiff::Timestamp;

use self::server::{Reply, Seen, Server};

pub const PROJECT: &str = "0a1b2c3d4e5f60718293a4b5c6d7e8f9";
pub const APP: &str = "5d0c7a52b3f64e0f9a1c2b3d4e5f6071";
pub const CODE: &str = "873810a2cd4e4a9c88df5979411d6a50753c0af4024840fcac59e37ce38364e4";
pub const NEW: &str = "11111111cd4e4a9c88df5979411d6a50753c0af4024840fcac59e37ce3830000";
pub const ACCESS_KEY: &str = "EXAMPLEACCESSKEY0001";
pub const SECRET_KEY: &str = "CanarySecretKey-0001/+=";
pub const PASSWORD: &str = "Canary p\"ss\\w/rd";
const NOW: &str = "2026-11-25T04:05:06.789Z";

/// Signing happens at a known time; waiting is real.
struct FixedClock(Instant);

#[async_trait]
impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        NOW.parse().unwrap()
    }

    fn uptime(&self) -> Duration {
        self.0.elapsed()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

pub fn options() -> HttpOptions {
    HttpOptions {
        allow_insecure_loopback: true,
        ..HttpOptions::default()
    }
}

/// Short bounds for tests in which nothing comes.
pub fn impatient() -> HttpOptions {
    HttpOptions {
        connect_timeout: Duration::from_millis(200),
        request_deadline: Duration::from_millis(800),
        ..options()
    }
}

pub fn client_with(options: &HttpOptions) -> HttpAppCodes {
    HttpAppCodes::new(options, Arc::new(FixedClock(Instant::now())), Arc::default()).unwrap()
}

fn client() -> HttpAppCodes {
    client_with(&options())
}

pub fn keys() -> Credentials {
    Credentials::Keys {
        access_key: ACCESS_KEY.into(),
        secret_key: SECRET_KEY.into(),
        security_token: None,
    }
}

pub fn password() -> Credentials {
    Credentials::Password {
        domain_name: "account".into(),
        user_name: "user".into(),
        password: PASSWORD.into(),
    }
}

pub fn target(modelarts: &str, iam: &str, credentials: Credentials) -> Target {
    Target {
        endpoint: Endpoint {
            modelarts: modelarts.into(),
            iam: iam.into(),
        },
        app: AppIdentity {
            endpoint: modelarts.into(),
            project_id: ProjectId::parse(PROJECT).unwrap(),
            app_id: AppId::parse(APP).unwrap(),
        },
        workspace: WorkspaceId::parse("0").unwrap(),
        caller: Caller {
            source: "ns/credentials".into(),
            version: "1".into(),
            credentials,
        },
    }
}

pub fn code(text: &str) -> AppCode {
    AppCode::parse(text).unwrap()
}

pub fn echo() -> Echo {
    Echo {
        name: "app_demo".into(),
        remark: Some("démo".into()),
    }
}

pub fn app_json(codes: &[&str]) -> String {
    serde_json::json!({"app": {
        "app_id": APP, "app_name": "app_demo", "app_remark": "démo", "app_key": "canary-app-key", "app_secret": "canary-app-secret",
        "user_id": "owner", "project_id": PROJECT, "app_type": "APIG", "app_codes": codes, "updated_at": 1_703_162_907_779_i64,
    }})
    .to_string()
}

/// Every answer is the app with one new code.
pub fn answers_well() -> Server {
    Server::start(|_| Reply::json(200, &app_json(&[NEW])))
}

/// One call of each kind against `server`, with its error.
pub async fn each_call(client: &HttpAppCodes, target: &Target) -> [(&'static str, Result<(), CloudError>); 4] {
    [
        ("GET", client.show_app(target).await.map(drop)),
        ("PUT", client.reset_code(target, &code(CODE), &echo()).await.map(drop)),
        ("POST", client.add_code(target, &echo()).await.map(drop)),
        ("DELETE", client.delete_code(target, &code(CODE)).await.map(drop)),
    ]
}
