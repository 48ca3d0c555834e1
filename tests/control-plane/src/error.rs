use std::path::{Path, PathBuf};

/// Why a control plane could not be had; the text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be used.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was being done, as a verb.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A program that this crate needs could not be run at all.
    #[error("cannot run {program}: is it installed? {hint}")]
    Run {
        /// The program as it was called.
        program: String,
        /// Where to get it.
        hint: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// `KUBEBUILDER_ASSETS` is set but does not hold what is needed.
    #[error("KUBEBUILDER_ASSETS is {}, which has no {missing}: {hint}", folder.display())]
    Assets {
        /// The folder that the variable names.
        folder: PathBuf,
        /// The program that it lacks.
        missing: &'static str,
        /// What to do.
        hint: String,
    },
    /// A published archive could not be had.
    #[error("cannot download {url}: {reason}")]
    Download {
        /// What was asked for.
        url: String,
        /// Why it failed.
        reason: String,
    },
    /// A step of getting the programs failed.
    #[error("could not {step}; the whole output is in {}; its end:\n{tail}", log.display())]
    Step {
        /// What the step does.
        step: &'static str,
        /// Everything that it printed.
        log: PathBuf,
        /// The last lines of that.
        tail: String,
    },
    /// A program ended, or did not answer in time.
    #[error("{program} {problem}; the end of its log:\n{tail}")]
    Program {
        /// The program.
        program: &'static str,
        /// What it did instead of starting.
        problem: String,
        /// The last lines of its log.
        tail: String,
    },
    /// A program could not have the port that was chosen for it.
    #[error("{program} found its port taken again and again; is something on this machine using up ports?")]
    Ports {
        /// The program.
        program: &'static str,
    },
    /// No identity of this name was asked for at the start.
    #[error("this control plane has no identity {0:?}: name it in Options::identities")]
    UnknownIdentity(String),
    /// What a program answered is not what it is known to answer.
    #[error("{0}")]
    Unexpected(String),
}

impl Error {
    pub(crate) fn file(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { what, path, source }
    }
}

/// The last lines of a log, for people: the end is where a program says why it gave up.
pub(crate) fn tail(log: &Path) -> String {
    const LINES: usize = 25;
    match std::fs::read(log) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            lines
                .get(lines.len().saturating_sub(LINES)..)
                .unwrap_or_default()
                .join("\n")
        }
        Err(error) => format!("(no log: {error})"),
    }
}
