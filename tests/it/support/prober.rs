//! Tries codes at the data plane of the stage's cloud, or answers as a test says.

use std::sync::Arc;

use appcode_operator::modelarts::AppCode;
use appcode_operator::verification::{Probe, Prober, Verification};
use async_trait::async_trait;

use super::stage::Stage;

/// Host that the operator of the tests may show codes to.
pub const INFERENCE_HOST: &str = "inference.test";

/// A service behind the gateway of the stage's cloud. Whatever the URL, it is a service that every app may call.
pub struct Gateway {
    stage: Arc<Stage>,
}

impl Gateway {
    pub fn of(stage: &Arc<Stage>) -> Self {
        Self {
            stage: Arc::clone(stage),
        }
    }
}

#[async_trait]
impl Prober for Gateway {
    async fn probe(&self, verification: &Verification, code: &AppCode) -> Probe {
        self.stage.tried.lock().unwrap().push(code.expose().to_owned());
        if let Some(probe) = self.stage.probes.lock().unwrap().pop_front() {
            return probe;
        }
        let now = self.stage.time.truth();
        let status = self
            .stage
            .cloud
            .with(|cloud| cloud.infer_status(now, "any-service", code.expose()));
        Probe::of(status, verification, None)
    }
}
