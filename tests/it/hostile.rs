//! What people, clouds, networks and clusters may do to the operator on purpose, and that it stays within its bounds.
//!
//! Each module names the threats that it is about, by these ids:
//!
//! | id | threat | where |
//! |---|---|---|
//! | T1 | a resource makes the operator read or write in another namespace | `scope`, `crd` |
//! | T2 | a resource makes it overwrite or take over a Secret that is not its own | `scope`, `reconcile::stops` |
//! | T4 | a resource makes it reset an app that its author may not touch | `scope`, `reconcile::stops` |
//! | T5 | a resource makes it connect to a host of the author's choice | `network`, `endpoint`, `verification` |
//! | T6 | credentials reach a host that they are not for | `network`, `scope` |
//! | T7 | a redirect carries a request, its headers or its code to another host | `network`, `wire::hostile`, `wire::probe` |
//! | T8 | an id or a code changes the path that it stands in | `ids`, `tests/fuzz` |
//! | T9 | an answer is made to exhaust or to mislead its reader | `answers`, `bombs`, `tests/fuzz`, `wire::hostile`, `wire::probe` |
//! | T10 | a secret shows in a log, an error, an event or a status | `answers`, `tests/fuzz`, `wire::errors`, `wire::probe`, the e2e canaries |
//! | T12 | annotations make a rotation grant more than its spec | `scope`, `tests/fuzz` |
//! | T13 | failures, or successes that change nothing, become a flood of calls | `storms`, `faults::lasting` |
//! | T15 | texts of others forge lines of the log or drive the reader's terminal | `logs` |
//! | T16 | TLS without a check of who answers | `network`, `wire::tls`, `wire::probe` |
//! | T21 | work outside of the namespaces that are served | `scope` |
//!
//! And one that needs no enemy: a panic in one pass must not end anything else (`panics`).

mod answers;
mod bombs;
mod ids;
pub mod logs;
mod network;
mod panics;
mod scope;
mod storms;
