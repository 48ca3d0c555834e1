//! Looks at the cluster and at the data plane as a user could.

use anyhow::{Context as _, Result};
use appcode_operator::api::{AppCodeRotation, AppCodeRotationStatus};
use appcode_operator::ids::{AppId, Fingerprint};
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use crate::stage::Stage;

/// What is the case at one moment. It holds no code.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    /// The resource's status.
    pub status: AppCodeRotationStatus,
    /// Fingerprint of the code in the Secret, made of the code itself.
    pub secret: Option<String>,
    /// The code before, and what the data plane says to it.
    pub old: Option<Answer>,
    /// The code in the Secret, and what the data plane says to it.
    pub new: Option<Answer>,
}

/// What an inference service answers to a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Stands for the code.
    pub fingerprint: String,
    /// HTTP status.
    pub status: u16,
}

/// Remembers the code before the present one, which nobody else keeps.
pub struct Observer<'a> {
    stage: &'a Stage,
    app: AppId,
    http: reqwest::Client,
    old: Option<String>,
    new: Option<String>,
}

impl<'a> Observer<'a> {
    pub fn new(stage: &'a Stage) -> Result<Self> {
        Ok(Self {
            app: AppId::parse(stage.app().app_id.clone())?,
            // The proxies of the environment are for other hosts than loopback.
            http: reqwest::Client::builder().no_proxy().build()?,
            old: stage.app().codes.first().cloned(),
            new: None,
            stage,
        })
    }

    pub async fn look(&mut self) -> Result<Scene> {
        let (resource, secret) = self.objects()?;
        let code = secret.and_then(|secret| secret.data?.remove("appCode"));
        let code = code.map(|bytes| String::from_utf8(bytes.0)).transpose()?;
        if let Some(code) = &code
            && self.new.as_ref() != Some(code)
            // A seed that was just taken over is not yet a new code.
            && self.old.as_ref() != Some(code)
        {
            self.old = self.new.replace(code.clone()).or_else(|| self.old.take());
        }
        Ok(Scene {
            status: resource.and_then(|resource| resource.status).unwrap_or_default(),
            secret: code.as_ref().map(|code| self.fingerprint(code)),
            old: self.ask(self.old.as_deref()).await?,
            new: self.ask(self.new.as_deref()).await?,
        })
    }

    fn fingerprint(&self, code: &str) -> String {
        Fingerprint::of(&self.app, code).short()
    }

    fn objects(&self) -> Result<(Option<AppCodeRotation>, Option<Secret>)> {
        let text = self.stage.objects()?;
        if text.trim().is_empty() {
            return Ok((None, None));
        }
        let mut found: Value = serde_json::from_str(&text).context("kubectl printed no JSON")?;
        // One object stands alone, several in a list.
        let items = match found.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            _ => vec![found],
        };
        let mut both = (None, None);
        for item in items {
            match item.get("kind").and_then(Value::as_str) {
                Some("AppCodeRotation") => both.0 = Some(serde_json::from_value(item)?),
                Some("Secret") => both.1 = Some(serde_json::from_value(item)?),
                _ => {}
            }
        }
        Ok(both)
    }

    /// Calls an inference service with the code, as a program that read the Secret does.
    async fn ask(&self, code: Option<&str>) -> Result<Option<Answer>> {
        let Some(code) = code else {
            return Ok(None);
        };
        let url = format!("{}/v1/infers/recommendations", self.stage.cloud_url());
        let request = self.http.post(url).header("X-Apig-AppCode", code).body("{}");
        let answer = request.send().await.map_err(reqwest::Error::without_url);
        let status = answer.context("the data plane did not answer")?.status().as_u16();
        Ok(Some(Answer {
            fingerprint: self.fingerprint(code),
            status,
        }))
    }
}
