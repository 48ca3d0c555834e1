//! What must hold in every run, each by a name of its own: a judge that sees that something is wrong says what.

use std::fmt;

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// I1: the code in a Secret works, or an open reset leads to the one that does; `Ready` never stands over a dead one.
    NoCodeLost,
    /// I2: no more changes than there are reasons, or excuses in the fault model.
    OneChangeForOneReason,
    /// I3: no Secret goes back to an older code.
    NeverOlder,
    /// I4: what is left alone comes to rest, is ready, and is silent then.
    ComesToRest,
    /// I5: pauses grow, whatever the cloud answers.
    BoundedCalls,
    /// I6: only the Secret that a living resource names is written, and only if it is its own.
    OnlyItsSecret,
    /// I7: no code and no key stands anywhere but in a Secret's data.
    NothingTold,
    /// I8: no edit is lost, and none is taken into account before it is seen.
    NoEditLost,
    /// I9: nothing is done again without a reason.
    NothingAgain,
    /// P2: whatever changes an app was written on a Secret first.
    MarkedFirst,
    /// P2: no rotation begins while the code before the last one is still to be retired.
    OneBeside,
    /// P5: only codes that were made for a Secret, or named for it, are taken or deleted.
    OnlyOurs,
    /// P5: a code that another resource holds is left to it.
    LeftToOthers,
    /// A Secret is made without a code, so that a write with one is always fenced.
    MadeEmpty,
    /// A code goes to its consumers only when it was seen to work.
    TriedFirst,
    /// A code counts as distributed only when every workload has rolled out with it.
    RolledOut,
    /// A workload is restarted once for one rotation.
    RestartedOnce,
    /// A code lives on for its grace period after its successor was distributed.
    GraceKept,
    /// No code of ours works that nobody holds.
    NothingLeft,
    /// A deletion is held up only while a code is to be retired.
    FinalizerGoes,
    /// What stands on a Secret besides the code is what spec says.
    DressedAsSpec,
    /// A person is asked only what nothing else can tell.
    AskedInNeed,
    /// Requests have the form that rights and other writers rest on, and no pass panics or never ends.
    Sound,
}

/// How one does not hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Broken {
    pub invariant: Invariant,
    pub how: String,
}

impl Invariant {
    pub fn broken(self, how: impl Into<String>) -> Broken {
        let how = how.into();
        Broken { invariant: self, how }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.invariant, self.how)
    }
}
