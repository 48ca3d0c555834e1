//! A request's way through the cloud: arrival, work under whatever faults were ordered, and what leaves.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::calls::{Call, How, Operation};
use super::orders::{Orders, replace_body};
use super::{Caller, Cloud};
use crate::faults::{FaultId, FaultKind, LostAnswer, Ordered, Reply, Which};
use crate::ledger::{Answered, RequestEntry};
use crate::route::{Routed, route};
use crate::wire::{Answer, Refusal, Request};

/// A request that has arrived and waits to be served.
#[derive(Debug, Clone)]
pub struct Arrival {
    number: u64,
    request_id: String,
    operation: Operation,
    call: Result<Call, Refusal>,
    caller: Result<Option<Caller>, Refusal>,
    struck: Vec<Ordered>,
}

impl Arrival {
    /// The request's number in the ledger.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What it asks.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// How long to wait before serving it.
    pub fn latency(&self) -> Duration {
        let waits = self.struck.iter().filter_map(|ordered| match ordered.fault.kind {
            FaultKind::Latency { millis } => Some(millis),
            _ => None,
        });
        Duration::from_millis(waits.fold(0, u64::saturating_add))
    }
}

/// What leaves the cloud.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// An answer.
    Answer(Answer),
    /// An answer that breaks off in the middle of its body.
    Broken(Answer),
    /// Nothing; the connection is closed.
    Cut,
    /// This answer, once [`Cloud::is_held`] is false for the request's number.
    Held(Answer),
}

/// The end of a request's way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The request's number in the ledger.
    pub number: u64,
    /// How long to keep it before it leaves.
    pub delay: Duration,
    /// What leaves.
    pub delivery: Delivery,
}

impl Outcome {
    /// The answer that reached the client, if one did.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.delivery {
            Delivery::Answer(answer) => Some(answer),
            Delivery::Broken(_) | Delivery::Cut | Delivery::Held(_) => None,
        }
    }
}

/// Work that is still to be done for a client that gave up.
#[derive(Debug, Clone)]
pub(super) struct Late {
    pub(super) fault: FaultId,
    pub(super) due: Option<Timestamp>,
    caller: Option<Caller>,
    call: Call,
    how: How,
}

impl Cloud {
    /// Counts the requests over HTTP that hold this text anywhere, from now on.
    pub fn count_requests_with(&mut self, text: &str) {
        self.unwanted.0.push(text.to_owned());
    }

    /// How many requests held a text that was not to come.
    pub fn requests_with_unwanted(&self) -> usize {
        self.unwanted.1
    }

    /// Takes a request in: finds out what it asks and who asks, picks the faults that strike it, and writes it down.
    pub fn arrive(&mut self, now: Timestamp, request: &Request) -> Arrival {
        self.advance(now);
        let (texts, held) = &mut self.unwanted;
        *held += usize::from(texts.iter().any(|text| request.holds(text)));
        let Routed { operation, app, call } = route(request, &self.behaviour);
        let caller = if operation.is_guarded() {
            self.authenticate(now, request).map(Some)
        } else {
            Ok(None)
        };
        let mut arrival = self.take_in(now, &request.method, (operation, app), call, caller);
        let is_doubted = |ordered: &Ordered| ordered.fault.kind == FaultKind::WrongSignature;
        if arrival.struck.iter().any(is_doubted)
            && let Some(refusal) = self.signature_refusal(request)
        {
            arrival.caller = Err(refusal);
        }
        arrival
    }

    /// Takes in a call whose caller needs no proof, as a test without HTTP makes it.
    pub fn arrive_as(&mut self, now: Timestamp, caller: &Caller, call: Call) -> Arrival {
        self.advance(now);
        let (method, operation, app) = call.describe();
        let (app, method) = (app.map(str::to_owned), method.to_owned());
        self.take_in(now, &method, (operation, app), Ok(call), Ok(Some(caller.clone())))
    }

    /// Takes in and serves at once.
    pub fn handle(&mut self, now: Timestamp, request: &Request) -> Outcome {
        let arrival = self.arrive(now, request);
        self.serve(now, arrival)
    }

    fn take_in(
        &mut self,
        now: Timestamp,
        method: &str,
        (operation, app): (Operation, Option<String>),
        call: Result<Call, Refusal>,
        caller: Result<Option<Caller>, Refusal>,
    ) -> Arrival {
        let struck = match caller {
            Ok(_) => self.faults.strike(operation, app.as_deref()),
            Err(_) => Vec::new(),
        };
        let number = self.ledger.next_number();
        let request_id = self.new_id();
        self.ledger.requests.push(RequestEntry {
            number,
            time: now,
            method: method.to_owned(),
            operation,
            app,
            caller: caller
                .as_ref()
                .ok()
                .and_then(Option::as_ref)
                .map(|caller| caller.user_id.clone()),
            answered: Answered::Pending,
            error_code: None,
            refusal: None,
            request_id: request_id.clone(),
            had_effect: false,
            faults: struck.iter().map(|ordered| ordered.id).collect(),
        });
        Arrival {
            number,
            request_id,
            operation,
            call,
            caller,
            struck,
        }
    }

    /// Does the work of a request.
    pub fn serve(&mut self, now: Timestamp, arrival: Arrival) -> Outcome {
        self.advance(now);
        let Arrival {
            number,
            request_id,
            call,
            caller,
            struck,
            ..
        } = arrival;
        let orders = Orders::of(&struck, number);
        let delay = Duration::from_millis(orders.delay);
        let (delivery, error_code) = self.work(now, (number, &request_id), call, caller, orders);
        let delivery = match delivery {
            Delivery::Answer(answer) => Delivery::Answer(answer.with_header("X-Request-Id", &request_id)),
            Delivery::Broken(answer) => Delivery::Broken(answer.with_header("X-Request-Id", &request_id)),
            Delivery::Held(answer) => Delivery::Held(answer.with_header("X-Request-Id", &request_id)),
            Delivery::Cut => Delivery::Cut,
        };
        let answered = match &delivery {
            Delivery::Answer(answer) => Answered::Status(answer.status),
            Delivery::Broken(_) | Delivery::Cut => Answered::Cut,
            Delivery::Held(_) => Answered::Held,
        };
        self.ledger.answered(number, answered, error_code);
        if let Delivery::Answer(answer) = &delivery
            && answer.status >= 400
        {
            self.ledger
                .refused(number, String::from_utf8_lossy(&answer.body).into_owned());
        }
        Outcome {
            number,
            delay,
            delivery,
        }
    }

    fn work(
        &mut self,
        now: Timestamp,
        (number, request_id): (u64, &str),
        call: Result<Call, Refusal>,
        caller: Result<Option<Caller>, Refusal>,
        orders: Orders,
    ) -> (Delivery, Option<String>) {
        let prefix = self.behaviour.gateway_prefix.as_str();
        let caller = match caller {
            Ok(caller) => caller,
            Err(refusal) => return (Delivery::Answer(refusal.answer(request_id)), Some(refusal.code)),
        };
        if let Some(reply) = &orders.refuse {
            return (
                Delivery::Answer(reply.answer(prefix, request_id)),
                Some(reply.error_code(prefix)),
            );
        }
        if orders.cut_before {
            return (Delivery::Cut, None);
        }
        let call = match call {
            Ok(call) => call,
            Err(refusal) => return (Delivery::Answer(refusal.answer(request_id)), Some(refusal.code)),
        };
        if let Some((fault, after_millis, lost)) = orders.late.clone() {
            let late = Late {
                fault,
                due: after_millis.map(|millis| later(now, millis)),
                caller,
                call,
                how: orders.how,
            };
            self.late.push(late);
            return self.lose(number, request_id, fault, lost);
        }
        let mut result = self.execute(now, caller.as_ref(), &call, orders.how);
        if let Some(which) = orders.duplicate {
            let second = self.execute(now, caller.as_ref(), &call, orders.how);
            if which == Which::Second {
                result = second;
            }
        }
        let error_code = result.as_ref().err().map(|refusal| refusal.code.clone());
        let answer = result.unwrap_or_else(|refusal| refusal.answer(request_id));
        self.deliver((number, request_id), answer, error_code, orders)
    }

    fn deliver(
        &mut self,
        (number, request_id): (u64, &str),
        mut answer: Answer,
        mut error_code: Option<String>,
        orders: Orders,
    ) -> (Delivery, Option<String>) {
        let prefix = self.behaviour.gateway_prefix.as_str();
        if let Some(reply) = orders.replace {
            error_code = Some(reply.error_code(prefix));
            answer = reply.answer(prefix, request_id);
        }
        if let Some(body) = orders.body {
            replace_body(&mut answer, body);
        }
        let delivery = match orders.hold {
            _ if orders.cut_after => Delivery::Cut,
            Some(fault) => {
                self.held.insert(number, (fault, answer.clone()));
                Delivery::Held(answer)
            }
            None if orders.broken => Delivery::Broken(answer),
            None => Delivery::Answer(answer),
        };
        (delivery, error_code)
    }

    fn lose(&mut self, number: u64, request_id: &str, fault: FaultId, lost: LostAnswer) -> (Delivery, Option<String>) {
        let prefix = self.behaviour.gateway_prefix.as_str();
        match lost {
            LostAnswer::Cut => (Delivery::Cut, None),
            LostAnswer::Reply(reply) => {
                let error_code = Some(reply.error_code(prefix));
                (Delivery::Answer(reply.answer(prefix, request_id)), error_code)
            }
            LostAnswer::Hang => {
                let answer = Reply::from(504).answer(prefix, request_id);
                self.held.insert(number, (fault, answer.clone()));
                (Delivery::Held(answer), None)
            }
        }
    }

    pub(super) fn do_late(&mut self, now: Timestamp, late: &Late) {
        // Nobody waits for the answer; where the work cannot be done any more, nothing happens.
        let _ = self.execute(now, late.caller.as_ref(), &late.call, late.how);
    }
}

fn later(now: Timestamp, millis: u64) -> Timestamp {
    let delay = SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
    now.checked_add(delay).unwrap_or(Timestamp::MAX)
}
