//! Rights of the operators that come and go.

use jiff::SignedDuration;

use crate::support::Stage;
use crate::support::api_server::{ROTATIONS, SECRETS};
use crate::support::script::Verb;

/// A right of the operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    ReadResources,
    ReadSecrets,
    CreateSecrets,
    WriteSecrets,
    WriteStatus,
}

impl Right {
    pub const ALL: [Self; 5] = [
        Self::ReadResources,
        Self::ReadSecrets,
        Self::CreateSecrets,
        Self::WriteSecrets,
        Self::WriteStatus,
    ];

    fn set(self, stage: &Stage, is_revoked: bool) {
        let (resource, verb) = match self {
            Self::ReadResources => (ROTATIONS, Verb::Get),
            Self::ReadSecrets => (SECRETS, Verb::Get),
            Self::CreateSecrets => (SECRETS, Verb::Create),
            Self::WriteSecrets => (SECRETS, Verb::Patch),
            Self::WriteStatus => (ROTATIONS, Verb::PutStatus),
        };
        stage.api.revoke(resource, verb, is_revoked);
    }

    pub fn take_away(self, stage: &Stage) {
        let end = stage.time.truth() + REVOKED;
        self.set(stage, true);
        stage.later(move |stage| {
            let is_over = stage.time.truth() >= end;
            if is_over {
                self.set(stage, false);
            }
            is_over
        });
    }
}

/// How long a right is lost.
const REVOKED: SignedDuration = SignedDuration::from_mins(10);

/// Gives every right back.
pub fn give_rights(stage: &Stage) {
    for right in Right::ALL {
        right.set(stage, false);
    }
}
