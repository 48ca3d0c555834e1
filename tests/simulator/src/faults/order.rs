//! The faults in force, and which of them strike a call.

use super::{Fault, FaultId};
use crate::model::Operation;

/// A fault that was ordered and has not run out.
#[derive(Debug, Clone)]
pub(crate) struct Ordered {
    pub(crate) id: FaultId,
    pub(crate) fault: Fault,
    /// How many acts the cloud had seen by then.
    pub(crate) after_act: u64,
}

/// The faults in force.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    next: u64,
    ordered: Vec<Ordered>,
}

impl Faults {
    pub(crate) fn order(&mut self, fault: Fault, after_act: u64) -> FaultId {
        self.next += 1;
        let id = FaultId(self.next);
        self.ordered.push(Ordered { id, fault, after_act });
        id
    }

    pub(crate) fn clear(&mut self, id: FaultId) -> bool {
        let before = self.ordered.len();
        self.ordered.retain(|ordered| ordered.id != id);
        self.ordered.len() != before
    }

    pub(crate) fn clear_all(&mut self) {
        self.ordered.clear();
    }

    pub(crate) fn list(&self) -> Vec<(FaultId, Fault)> {
        let left = self.ordered.iter().filter(|ordered| ordered.fault.times != Some(0));
        left.map(|ordered| (ordered.id, ordered.fault.clone())).collect()
    }

    /// The faults that strike this call, each used up by one.
    pub(crate) fn strike(&mut self, operation: Operation, app: Option<&str>) -> Vec<Ordered> {
        self.ordered.retain(|ordered| ordered.fault.times != Some(0));
        let mut struck = Vec::new();
        for ordered in self.ordered.iter_mut().filter(|one| one.fault.strikes(operation, app)) {
            if ordered.fault.skip > 0 {
                ordered.fault.skip -= 1;
                continue;
            }
            struck.push(ordered.clone());
            if let Some(times) = &mut ordered.fault.times {
                *times = times.saturating_sub(1);
            }
        }
        struck
    }
}
