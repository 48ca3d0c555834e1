//! Who stands still in the middle of a call while another process leads, and when it goes on.

use std::sync::{Mutex, MutexGuard};

use tokio::sync::{Notify, oneshot};

use super::gate::ProcessId;
use super::script::Takeover;

#[derive(Default)]
pub struct Relay {
    inner: Mutex<Inner>,
    taken_over: Notify,
}

#[derive(Default)]
struct Inner {
    standing: Vec<Standing>,
    /// The last takeover that nobody has taken note of.
    new: Option<(ProcessId, Takeover)>,
    /// Who waits for the end of whose turn.
    waiting: Vec<(ProcessId, oneshot::Sender<()>)>,
}

struct Standing {
    process: ProcessId,
    /// Number of the call from which on it goes on.
    until: usize,
    go_on: oneshot::Sender<()>,
}

impl Relay {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Stands still until it is let go. `calls`: how many were made.
    pub async fn stand_still(&self, process: ProcessId, takeover: Takeover, calls: usize) {
        let (go_on, wait) = oneshot::channel();
        {
            let mut inner = self.lock();
            let until = calls.saturating_add(takeover.after);
            inner.standing.push(Standing { process, until, go_on });
            inner.new = Some((process, takeover));
            // Taken over from once more, it keeps nobody waiting for the end of its turn.
            inner.waiting.retain(|(other, _)| *other != process);
        }
        self.taken_over.notify_one();
        if wait.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Returns once a process stands still: which, and how it is taken over from.
    pub async fn taken_over(&self) -> (ProcessId, Takeover) {
        loop {
            self.taken_over.notified().await;
            if let Some(new) = self.lock().new.take() {
                return new;
            }
        }
    }

    /// Before the call of a process: lets go whose time has come, and waits for the end of its turn.
    pub async fn before_call(&self, process: ProcessId, calls: usize) {
        let over = {
            let mut inner = self.lock();
            let is_due = |standing: &Standing| standing.process != process && standing.until <= calls;
            let Some(place) = inner.standing.iter().position(is_due) else {
                return;
            };
            let standing = inner.standing.remove(place);
            // One whose call has timed out meanwhile went on by itself.
            if standing.go_on.send(()).is_err() {
                return;
            }
            let (ended, over) = oneshot::channel();
            inner.waiting.push((standing.process, ended));
            over
        };
        // Nobody is left to tell if that process has crashed, and then its turn is over too.
        let _ = over.await;
    }

    /// The turn of a process is over, or the process is.
    pub fn turn_over(&self, process: ProcessId) {
        self.lock().waiting.retain(|(other, _)| *other != process);
    }

    /// Lets the one go on that stands still longest.
    pub fn let_go(&self) -> Option<ProcessId> {
        let mut inner = self.lock();
        if inner.standing.is_empty() {
            return None;
        }
        let standing = inner.standing.remove(0);
        let _ = standing.go_on.send(());
        Some(standing.process)
    }
}
