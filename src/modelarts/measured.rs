//! Counts and times the calls of the real client.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{App, AppCode, AppCodes, CloudError, Echo, Target};
use crate::clock::Clock;
use crate::metrics::{Metrics, Operation};

/// [`AppCodes`] that counts each call on an app. It stands inside the guard, which keeps some calls from being made.
pub struct MeasuredAppCodes {
    inner: Arc<dyn AppCodes>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl MeasuredAppCodes {
    /// `inner` with its calls counted in `metrics`.
    pub fn new(inner: Arc<dyn AppCodes>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        Self { inner, clock, metrics }
    }

    fn count(&self, operation: Operation, since: Duration, answer: Result<App, CloudError>) -> Result<App, CloudError> {
        let took = self.clock.uptime().saturating_sub(since);
        self.metrics.called(operation, answer.as_ref().map(drop), took);
        answer
    }
}

#[async_trait]
impl AppCodes for MeasuredAppCodes {
    async fn admit(&self, target: &Target) -> Result<(), CloudError> {
        self.inner.admit(target).await
    }

    async fn show_app(&self, target: &Target) -> Result<App, CloudError> {
        let since = self.clock.uptime();
        let answer = self.inner.show_app(target).await;
        self.count(Operation::Show, since, answer)
    }

    async fn reset_code(&self, target: &Target, code: &AppCode, echo: &Echo) -> Result<App, CloudError> {
        let since = self.clock.uptime();
        let answer = self.inner.reset_code(target, code, echo).await;
        self.count(Operation::Reset, since, answer)
    }

    async fn add_code(&self, target: &Target, echo: &Echo) -> Result<App, CloudError> {
        let since = self.clock.uptime();
        let answer = self.inner.add_code(target, echo).await;
        self.count(Operation::Add, since, answer)
    }

    async fn delete_code(&self, target: &Target, code: &AppCode) -> Result<App, CloudError> {
        let since = self.clock.uptime();
        let answer = self.inner.delete_code(target, code).await;
        self.count(Operation::Delete, since, answer)
    }
}
