//! Running programs.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The operator's program stands beside the folder of the examples.
pub fn operator() -> Result<PathBuf> {
    let own = std::env::current_exe().context("the demo does not know where it stands")?;
    let built = own
        .parent()
        .and_then(Path::parent)
        .map(|folder| folder.join("appcode-operator"));
    let built = built.filter(|program| program.is_file());
    built.context("the operator's program is not built: run `make demo`, which builds it first")
}

/// Runs a program to its end with `input`, and returns what it printed.
pub fn output(mut command: Command, input: &str) -> Result<String> {
    // A group of its own: Ctrl-C is ours to heed, and a last look at the cluster must still work after it.
    command.process_group(0);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .spawn()
        .with_context(|| format!("{name} could not be started"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that fails before it reads tells why itself.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .with_context(|| format!("{name} could not be waited for"))?;
    if !output.status.success() {
        let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy()).collect();
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name} {} failed: {}", arguments.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
