//! A stateful stand-in for Huawei Cloud as far as app codes go: ModelArts app authentication, IAM, and the gateway in
//! front of inference services, with faults to order and a ledger of all that happened.
//!
//! Read [`model`] first: [`Cloud`] is the whole cloud as a value. It does no I/O and has no clock; every method takes the
//! time, and its random numbers come from a seed, so a test can drive it on one thread and get the same run twice.
//! [`Simulator`] puts it behind HTTP on a loopback port. [`faults`] says what can go wrong, [`ledger`] what a test can
//! know afterwards.

mod admin;
pub mod auth;
mod clock;
pub mod faults;
mod http;
pub mod ledger;
pub mod model;
mod route;
mod simulator;
pub mod wire;

pub use clock::Clock;
pub use faults::{Body, Fault, FaultId, FaultKind, Half, Lag, LostAnswer, Reply, Which};
pub use ledger::{Answered, Cause, Change, Effect, Ledger, RequestEntry};
pub use model::{
    Account, App, AppRequest, AppType, Arrival, Behaviour, Call, Caller, Cloud, CodePosition, Codes, Delivery,
    GatewayPrefix, Key, ListQuery, NewApp, Operation, Outcome, Service, TemporaryKey, UnknownCode, User,
};
pub use simulator::{Options, Simulator};
pub use wire::{Answer, Request};
