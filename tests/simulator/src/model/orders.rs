//! What the faults that strike one call come to together.

use super::calls::How;
use crate::faults::{Body, FaultId, FaultKind, LostAnswer, Ordered, Reply, Which};
use crate::wire::Answer;

/// The faults of one call, put in order.
#[derive(Default)]
pub(super) struct Orders {
    pub(super) refuse: Option<Reply>,
    pub(super) cut_before: bool,
    pub(super) late: Option<(FaultId, Option<u64>, LostAnswer)>,
    pub(super) duplicate: Option<Which>,
    pub(super) how: How,
    pub(super) replace: Option<Reply>,
    pub(super) body: Option<Body>,
    pub(super) hold: Option<FaultId>,
    pub(super) cut_after: bool,
    pub(super) broken: bool,
    pub(super) delay: u64,
}

impl Orders {
    pub(super) fn of(struck: &[Ordered], number: u64) -> Self {
        let mut orders = Self::default();
        orders.how.request = Some(number);
        for Ordered { id, fault, after_act } in struck {
            match fault.kind.clone() {
                FaultKind::Latency { .. } | FaultKind::WrongSignature => {}
                FaultKind::SlowAnswer { millis } => orders.delay = orders.delay.saturating_add(millis),
                FaultKind::StatusBefore(reply) => orders.refuse = Some(reply),
                FaultKind::Throttle { retry_after } => {
                    let headers = retry_after
                        .map(|value| ("Retry-After".to_owned(), value))
                        .into_iter()
                        .collect();
                    orders.refuse = Some(Reply {
                        headers,
                        ..Reply::from(429)
                    });
                }
                FaultKind::CutBefore => orders.cut_before = true,
                FaultKind::StatusAfter(reply) => orders.replace = Some(reply),
                FaultKind::CutAfter => orders.cut_after = true,
                FaultKind::CutInAnswer => orders.broken = true,
                FaultKind::Hold => orders.hold = Some(*id),
                FaultKind::Stale { lag } => orders.how.view.lag = Some((lag, *after_act)),
                FaultKind::Masked { even_when_asked } => orders.how.view.masked = Some(even_when_asked),
                FaultKind::HalfReset { left } => orders.how.half = Some(left),
                FaultKind::Body { body } => orders.body = Some(body),
                FaultKind::Late { after_millis, answer } => orders.late = Some((*id, after_millis, answer)),
                FaultKind::Duplicate { answer } => orders.duplicate = Some(answer),
            }
        }
        orders
    }
}

pub(super) fn replace_body(answer: &mut Answer, body: Body) {
    let as_type = |answer: &mut Answer, content_type: &str| {
        answer
            .headers
            .retain(|(name, _)| !name.eq_ignore_ascii_case("Content-Type"));
        answer.headers.push(("Content-Type".into(), content_type.into()));
    };
    match body {
        Body::Html => {
            as_type(answer, "text/html");
            answer.body = b"<html><head><title>Bad gateway</title></head><body>nginx</body></html>".to_vec();
        }
        Body::Empty => answer.body.clear(),
        Body::Garbage => answer.body = b"{\"app\":{\"app_codes\":[\x00,,".to_vec(),
        Body::HalfOfIt => answer.body.truncate(answer.body.len() / 2),
        Body::ByteOrderMark => {
            answer.body.splice(0..0, *b"\xef\xbb\xbf");
        }
        Body::Bytes(count) => answer.body = vec![b' '; count],
        Body::Text(text) => {
            as_type(answer, "application/json");
            answer.body = text.into_bytes();
        }
    }
}
