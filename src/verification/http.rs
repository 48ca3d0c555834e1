//! The real try, over HTTPS.

use std::sync::Arc;

use async_trait::async_trait;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use reqwest::Method;

use super::{Probe, Prober, Verification};
use crate::api::VerificationMethod;
use crate::clock::Clock;
use crate::modelarts::{AppCode, HttpOptions, HttpSetupError, Line, Outgoing, SendError, scrub};

/// What a gateway asks for an app code in.
const HEADER: HeaderName = HeaderName::from_static("x-apig-appcode");

/// [`Prober`] over HTTPS, with the certificates and the proxy of the cloud's client. Each try is one request on a
/// connection of its own: no redirect is followed, nothing is repeated, unpacked or remembered.
pub struct HttpProber {
    line: Line,
    clock: Arc<dyn Clock>,
}

impl HttpProber {
    /// A prober that connects as `options` say, but for the deadline, which each verification brings along.
    ///
    /// # Errors
    /// When the options hold something unreadable.
    pub fn new(options: &HttpOptions, clock: Arc<dyn Clock>) -> Result<Self, HttpSetupError> {
        Ok(Self {
            line: Line::without_reuse(options)?,
            clock,
        })
    }
}

#[async_trait]
impl Prober for HttpProber {
    async fn probe(&self, verification: &Verification, code: &AppCode) -> Probe {
        let Ok(mut value) = HeaderValue::from_str(code.expose()) else {
            return Probe::Unreachable("the code holds characters that no header can carry".into());
        };
        value.set_sensitive(true);
        let mut headers = HeaderMap::from_iter([(HEADER, value)]);
        let method = match verification.method {
            VerificationMethod::Get => Method::GET,
            VerificationMethod::Head => Method::HEAD,
            VerificationMethod::Post => {
                // Some servers ask for a length, and the HTTP stack announces none for an empty body.
                headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
                Method::POST
            }
        };
        let url = &verification.url;
        let request = Outgoing {
            method,
            origin: &url.origin,
            path: &url.path,
            query: &url.query,
            headers,
            body: None,
        };
        match self.line.send(request, verification.timeout, self.clock.now()).await {
            // Whether the body came to its end does not matter: the status has answered.
            Ok(answer) => Probe::of(answer.status, verification, answer.retry_after),
            Err(SendError::NotSent(why) | SendError::Unknown(why)) => Probe::Unreachable(scrub(&why, &[code.expose()])),
        }
    }
}
