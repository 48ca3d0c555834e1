//! Tries codes at the data plane of the stage's cloud, or answers as a test says.

use std::sync::Arc;

use appcode_operator::modelarts::AppCode;
use appcode_operator::verification::{Probe, Prober, Verification};
use async_trait::async_trait;

use super::gate::ProcessId;
use super::script::{Call, Moment, Strike};
use super::stage::{Stage, told};

/// Host that the operator of the tests may show codes to.
pub const INFERENCE_HOST: &str = "inference.test";

/// A service behind the gateway of the stage's cloud. Whatever the URL, it is a service that every app may call.
pub struct Gateway {
    stage: Arc<Stage>,
    process: ProcessId,
}

impl Gateway {
    pub fn of(stage: &Arc<Stage>) -> Self {
        Self {
            stage: Arc::clone(stage),
            process: 0,
        }
    }

    /// The same for this process.
    pub fn for_process(self, process: ProcessId) -> Self {
        Self { process, ..self }
    }

    fn answer(&self, verification: &Verification, code: &AppCode) -> Probe {
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

#[async_trait]
impl Prober for Gateway {
    async fn probe(&self, verification: &Verification, code: &AppCode) -> Probe {
        let (stage, process) = (&self.stage, self.process);
        stage.gate.pass(process, None).await;
        stage.relay.before_call(process, stage.script.len()).await;
        let strikes = stage.script.enter(Call::Probe);
        stage.note(process, || format!("try of the code {}", told(&strikes)));
        stage.strike(process, &strikes, Moment::Before).await;
        stage.tried.lock().unwrap().push(code.expose().to_owned());
        let struck = strikes.iter().find_map(|strike| match strike {
            Strike::Probe(probe) => Some(probe.clone()),
            _ => None,
        });
        let probe = struck.unwrap_or_else(|| self.answer(verification, code));
        if probe.is_passed() {
            stage.judge.worked(code.expose());
        }
        stage.strike(process, &strikes, Moment::After).await;
        probe
    }
}
