//! Programs that end with us. A [`Program`] is killed when it is dropped, and by the kernel when this process ends in
//! any other way, `kill -9` included.

use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::mpsc::{self, Sender};
use std::thread;

use crate::Error;
use crate::error::tail;

#[derive(Debug)]
pub(crate) struct Program {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `command` with its output appended to `log`.
    pub(crate) fn spawn(name: &'static str, command: &Command, log: PathBuf) -> Result<Self, Error> {
        let out = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(Error::file("write", &log))?;
        let err = out.try_clone().map_err(Error::file("write", &log))?;
        // setpriv replaces itself by the program, so the child's id is the program's own.
        let mut tied = Command::new("setpriv");
        tied.args(["--pdeathsig", "KILL", "--"])
            .arg(command.get_program())
            .args(command.get_args());
        // A group of its own: Ctrl-C ends the one who started it, who may still have a last word with the server.
        tied.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        let hint = "apt-get install util-linux";
        let child = spawn_from_lasting_thread(tied);
        let child = child.map_err(|source| Error::Run {
            program: "setpriv".to_owned(),
            hint,
            source,
        })?;
        Ok(Self { name, child, log })
    }

    /// Whether the program has ended by itself, as an error with the end of its log.
    pub(crate) fn check(&mut self) -> Result<(), Error> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.failure(format!("ended with {status}"))),
            Err(error) => Err(self.failure(format!("cannot be watched: {error}"))),
        }
    }

    pub(crate) fn failure(&self, problem: String) -> Error {
        Error::Program {
            program: self.name,
            problem,
            tail: tail(&self.log),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only for a child that is already gone, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

type Job = (Command, Sender<io::Result<Child>>);

/// The kernel kills a child when the *thread* that started it ends, and threads of a test or a runtime end early.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    static JOBS: LazyLock<io::Result<Sender<Job>>> = LazyLock::new(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        thread::Builder::new().name("control-plane".to_owned()).spawn(move || {
            for (mut command, answer) in jobs {
                // Whoever asked may have given up, and then the child must not stay.
                if let Err(mpsc::SendError(Ok(mut child))) = answer.send(command.spawn()) {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
        })?;
        Ok(sender)
    });
    let gone = || io::Error::other("the thread that starts programs is gone");
    let jobs = JOBS
        .as_ref()
        .map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
    let (answer, child) = mpsc::channel();
    jobs.send((command, answer)).map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}
