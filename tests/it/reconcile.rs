//! What becomes of a resource, by the end state: the Secret, the cloud's ledger, status and events. The real client
//! speaks to the simulated cloud over HTTP.

mod calendar;
mod counted;
mod distribution;
mod dressed;
mod first;
mod held;
mod mishaps;
mod overlap;
mod policies;
mod quiet;
mod replicas;
mod secret;
mod siblings;
mod stops;
mod triggers;
mod watched;
