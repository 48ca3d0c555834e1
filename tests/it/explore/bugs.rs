//! Planted bugs, each set from outside the operator.

use std::sync::Arc;

use crate::support::Stage;
use crate::support::process::Make;

/// One mistake.
pub struct Plant {
    /// What it does, in words.
    pub name: &'static str,
    pub set: fn(&Arc<Stage>, &mut Make),
}

impl Plant {
    pub fn set(&self, stage: &Arc<Stage>, make: &mut Make) {
        (self.set)(stage, make);
    }
}
