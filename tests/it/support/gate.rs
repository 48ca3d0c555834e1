//! Where every call and every sleep of a process waits until it is let through, so that a test decides who goes on.
//!
//! It stands open unless a test shuts it. Behind a shut gate two processes interleave at each call.

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use tokio::sync::oneshot;

/// Names a process on the stage.
pub type ProcessId = u64;

/// Names one that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(u64);

/// A call or a sleep that waits.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    pub ticket: Ticket,
    pub process: ProcessId,
    /// Not before this time.
    pub until: Option<Timestamp>,
}

#[derive(Clone, Default)]
pub struct Gate(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    is_shut: bool,
    tickets: u64,
    waiting: Vec<(Waiting, oneshot::Sender<()>)>,
    crashed: Vec<ProcessId>,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// From now on nobody passes who is not let through.
    pub fn shut(&self) {
        self.lock().is_shut = true;
    }

    pub fn is_shut(&self) -> bool {
        self.lock().is_shut
    }

    /// Waits to be let through. A process that ends meanwhile waits for ever.
    pub async fn pass(&self, process: ProcessId, until: Option<Timestamp>) {
        let (passed, pass) = oneshot::channel();
        {
            let mut inner = self.lock();
            if !inner.is_shut {
                return;
            }
            inner.tickets += 1;
            let waiting = Waiting {
                ticket: Ticket(inner.tickets),
                process,
                until,
            };
            inner.waiting.push((waiting, passed));
        }
        if pass.await.is_err() {
            pending::<()>().await;
        }
    }

    /// Those who wait, in the order in which they came.
    pub fn waiting(&self) -> Vec<Waiting> {
        self.lock().waiting.iter().map(|(waiting, _)| *waiting).collect()
    }

    pub fn let_through(&self, ticket: Ticket) {
        let mut inner = self.lock();
        let place = inner.waiting.iter().position(|(waiting, _)| waiting.ticket == ticket);
        let (_, passed) = inner.waiting.remove(place.unwrap());
        drop(inner);
        let _ = passed.send(());
    }

    /// A process has ended: what it waits for never comes.
    pub fn end(&self, process: ProcessId) {
        self.lock().waiting.retain(|(waiting, _)| waiting.process != process);
    }

    /// A process ends at this call.
    pub fn crash(&self, process: ProcessId) {
        self.lock().crashed.push(process);
    }

    /// Processes that have crashed since this was last asked.
    pub fn take_crashed(&self) -> Vec<ProcessId> {
        std::mem::take(&mut self.lock().crashed)
    }
}
