//! What the process takes from itself before it holds a secret.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Sees to it that no memory of this process is ever written to a file: codes and keys stand in it. A pod has no field for
/// that, so the program does it.
///
/// The limit alone would not do, as the kernel does not heed it where core dumps go to a program by a pipe. A process
/// that is not dumpable cannot be looked into by others of its user either.
///
/// # Errors
/// When the kernel refuses, which it has no reason to.
pub fn forbid_core_dumps() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn a_process_that_forbade_core_dumps_can_have_none() {
        forbid_core_dumps().unwrap();
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
