//! Deeds in words.

use std::fmt;

use super::{Deed, Forgery, NAMES, WORKLOADS};

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeleteResource(which) => write!(f, "resource {} is deleted", NAMES[*which]),
            Self::MakeResource(which) => write!(f, "resource {} is made again if it is gone", NAMES[*which]),
            Self::RemakeResource(which) => write!(f, "resource {} is deleted and made again", NAMES[*which]),
            Self::RemakePlain(which) => write!(
                f,
                "resource {} is deleted and made again with a plain spec",
                NAMES[*which]
            ),
            Self::DeleteSecret(which) => write!(f, "the Secret of {} is deleted", NAMES[*which]),
            Self::EditSecret(which) => write!(f, "the code in the Secret of {} is overwritten", NAMES[*which]),
            Self::RestoreSecret(which) => write!(f, "the Secret of {} is restored from a backup", NAMES[*which]),
            Self::Label(which) => write!(f, "a label of {} is edited", NAMES[*which]),
            Self::Trigger(which, value) => write!(f, "the trigger of {} is set to {value}", NAMES[*which]),
            Self::Withdraw(which) => write!(f, "the trigger of {} is taken away", NAMES[*which]),
            Self::Request(which, value) => write!(f, "a rotation of {} is requested as {value}", NAMES[*which]),
            Self::Suspend(which) => write!(f, "{} is suspended", NAMES[*which]),
            Self::Resume(which) => write!(f, "{} is resumed", NAMES[*which]),
            Self::Reseed(which) => write!(f, "spec of {} names the youngest code", NAMES[*which]),
            Self::Retarget(which) => write!(f, "spec of {} names another Secret", NAMES[*which]),
            Self::WipeStatus(which) => write!(f, "the status of {} is emptied", NAMES[*which]),
            Self::StrangerAdds => write!(f, "a stranger adds a code to the app"),
            Self::StrangerDeletes(which) => write!(f, "a stranger deletes the code in the Secret of {}", NAMES[*which]),
            Self::Forge(which, Forgery::Code) => write!(f, "a code is forged on the Secret of {}", NAMES[*which]),
            Self::Forge(which, forgery) => {
                write!(
                    f,
                    "an intent for another {forgery:?} is forged on the Secret of {}",
                    NAMES[*which]
                )
            }
            Self::TakeCredentials => write!(f, "the credentials are deleted"),
            Self::GiveCredentials => write!(f, "the credentials are given again"),
            Self::Jump(hours) => write!(f, "the clocks of the operators jump to {hours} hours off"),
            Self::Pass(seconds) => write!(f, "{seconds} seconds pass"),
            Self::Restart(place) => write!(f, "operator {place} is told to end and another one starts"),
            Self::Grace(which, seconds) => {
                write!(f, "the grace period of {} is set to {seconds} seconds", NAMES[*which])
            }
            Self::Strategy(which, is_overlap) => {
                let strategy = if *is_overlap { "Overlap" } else { "Reset" };
                write!(f, "the strategy of {} is set to {strategy}", NAMES[*which])
            }
            Self::SeedRetiring(which) => {
                write!(
                    f,
                    "spec of {} names the code that another resource replaced",
                    NAMES[*which]
                )
            }
            Self::PauseWorkload(at) => write!(f, "{} is paused", WORKLOADS[*at]),
            Self::RollBack(at) => write!(f, "{} is rolled back", WORKLOADS[*at]),
            Self::DeleteWorkload(at) => write!(f, "{} is deleted", WORKLOADS[*at]),
            Self::MakeWorkload(at) => write!(f, "{} is made again if it is gone", WORKLOADS[*at]),
            Self::Dress(which, dress) => write!(f, "spec.target of {} is edited: {dress:?}", NAMES[*which]),
            Self::Lag(seconds) => write!(f, "readings show what was for {seconds} seconds"),
            Self::Revoke(right) => write!(f, "the right to {right:?} is lost for ten minutes"),
            Self::Blind { seconds, is_cut: true } => write!(f, "the watches are cut for {seconds} seconds"),
            Self::Blind { seconds, .. } => write!(f, "the watches tell nothing for {seconds} seconds"),
            Self::Repeat => write!(f, "the watches tell everything again"),
        }
    }
}
