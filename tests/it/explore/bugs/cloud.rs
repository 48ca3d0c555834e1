//! Mistakes in front of the cloud.

use std::sync::Arc;

use appcode_operator::modelarts::{App, AppCode, AppCodes, CloudError, CloudErrorKind, Echo, Target};
use async_trait::async_trait;

pub fn retry_once(inner: Arc<dyn AppCodes>) -> Arc<dyn AppCodes> {
    Arc::new(Mistaken(inner, Mistake::RetryOnce))
}

pub fn failed_is_not_applied(inner: Arc<dyn AppCodes>) -> Arc<dyn AppCodes> {
    Arc::new(Mistaken(inner, Mistake::FailedIsNotApplied))
}

pub fn last_only(inner: Arc<dyn AppCodes>) -> Arc<dyn AppCodes> {
    Arc::new(Mistaken(inner, Mistake::LastOnly))
}

pub fn masked_is_trusted(inner: Arc<dyn AppCodes>) -> Arc<dyn AppCodes> {
    Arc::new(Mistaken(inner, Mistake::MaskedIsTrusted))
}

pub fn lost_is_not_applied(inner: Arc<dyn AppCodes>) -> Arc<dyn AppCodes> {
    Arc::new(Mistaken(inner, Mistake::LostIsNotApplied))
}

pub fn delete_newest(inner: Arc<dyn AppCodes>) -> Arc<dyn AppCodes> {
    Arc::new(Mistaken(inner, Mistake::DeleteNewest))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mistake {
    LostIsNotApplied,
    DeleteNewest,
    RetryOnce,
    FailedIsNotApplied,
    LastOnly,
    MaskedIsTrusted,
}

struct Mistaken(Arc<dyn AppCodes>, Mistake);

type Answer = Result<App, CloudError>;

impl Mistaken {
    fn twist(&self, answer: Answer) -> Answer {
        match (self.1, answer) {
            (Mistake::LastOnly, Ok(app)) => Ok(App {
                codes: app.codes.last().cloned().into_iter().collect(),
                ..app
            }),
            (Mistake::MaskedIsTrusted, Ok(app)) => Ok(App { masked: false, ..app }),
            (Mistake::FailedIsNotApplied, Err(error)) if error.status == Some(500) => Err(CloudError {
                kind: CloudErrorKind::Throttled { retry_after: None },
                status: None, // as if it had never been sent
                ..error
            }),
            (_, answer) => answer,
        }
    }

    fn is_retried(&self, answer: &Answer) -> bool {
        let is_unknown = answer
            .as_ref()
            .is_err_and(|error| error.kind == CloudErrorKind::UnknownOutcome);
        is_unknown && self.1 == Mistake::RetryOnce
    }
}

#[async_trait]
impl AppCodes for Mistaken {
    async fn show_app(&self, target: &Target) -> Answer {
        self.twist(self.0.show_app(target).await)
    }

    async fn reset_code(&self, target: &Target, code: &AppCode, echo: &Echo) -> Answer {
        let mut answer = self.0.reset_code(target, code, echo).await;
        if self.is_retried(&answer) {
            answer = self.0.reset_code(target, code, echo).await;
        }
        self.twist(answer)
    }

    async fn add_code(&self, target: &Target, echo: &Echo) -> Answer {
        let answer = self.0.add_code(target, echo).await;
        self.twist(match answer {
            Err(error) if error.kind == CloudErrorKind::UnknownOutcome && self.1 == Mistake::LostIsNotApplied => {
                Err(CloudError {
                    kind: CloudErrorKind::Throttled { retry_after: None },
                    ..error
                })
            }
            answer => answer,
        })
    }

    async fn delete_code(&self, target: &Target, code: &AppCode) -> Answer {
        if self.1 == Mistake::DeleteNewest {
            let codes = self.0.show_app(target).await?.codes;
            return self.0.delete_code(target, codes.last().unwrap_or(code)).await;
        }
        self.twist(self.0.delete_code(target, code).await)
    }
}
