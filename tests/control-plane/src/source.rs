//! Programs out of Debian's packages, by `build-from-source.sh`, whose steps are listed here with what they do.

use std::fs::{self, File};
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::Error;
use crate::cache::Cache;
use crate::progress::Progress;

/// What the source package builds. Keep it in step with the script, which stamps it.
pub(crate) const VERSION: &str = "v1.20.2";

const SCRIPT: &str = include_str!("../build-from-source.sh");

type Step = (&'static str, &'static str);

const INDEX: Step = ("index", "read the index of Debian's packages");
const KUBECTL: Step = ("kubectl", "download kubectl");
const PROMETHEUS: Step = ("prometheus", "unpack Prometheus");
const SERVERS: [Step; 6] = [
    ("tools", "unpack the Go compiler"),
    ("etcd", "unpack etcd"),
    ("source", "unpack the source of Kubernetes"),
    ("openapi", "generate the code of the API's schema"),
    ("apiserver", "compile kube-apiserver, which takes minutes"),
    (
        "controller-manager",
        "compile kube-controller-manager, which takes minutes",
    ),
];

/// What is to be made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) servers: bool,
    pub(crate) kubectl: bool,
    pub(crate) prometheus: bool,
}

impl Wanted {
    fn steps(self) -> Vec<Step> {
        let servers = SERVERS.into_iter().filter(|_| self.servers);
        [INDEX]
            .into_iter()
            .chain(servers)
            .chain(self.kubectl.then_some(KUBECTL))
            .chain(self.prometheus.then_some(PROMETHEUS))
            .collect()
    }
}

/// Makes what is wanted and keeps it as `version`. Call it under the cache's lock.
pub(crate) async fn build(cache: &Cache, wanted: Wanted, version: &str) -> Result<(), Error> {
    let work = cache.work()?;
    let script = work.path().join("build-from-source.sh");
    fs::write(&script, SCRIPT).map_err(Error::file("write", &script))?;
    let made = work.path().join("made");
    let steps = wanted.steps();
    let mut progress = Progress::new(cache.durations(), steps.len());
    for (name, what) in steps {
        progress
            .step(name, what, run(cache, work.path(), &made, name, what))
            .await?;
    }
    cache.keep(&made, version)
}

async fn run(cache: &Cache, work: &Path, made: &Path, name: &str, what: &'static str) -> Result<(), Error> {
    let output = work.join(format!("{name}.log"));
    let log = File::create(&output).map_err(Error::file("write", &output))?;
    let both = log.try_clone().map_err(Error::file("write", &output))?;
    let status = Command::new("bash")
        .arg(work.join("build-from-source.sh"))
        .arg(name)
        .env("WORK", work)
        .env("OUT", made)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(both)
        .kill_on_drop(true)
        .status()
        .await
        .map_err(|source| Error::Run {
            program: "bash".to_owned(),
            hint: "",
            source,
        })?;
    if status.success() {
        Ok(())
    } else {
        Err(cache.failed_step(name, what, &output))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_a_step_in_the_script_for_each_it_announces() {
        for (name, _) in (Wanted {
            servers: true,
            kubectl: true,
            prometheus: true,
        })
        .steps()
        {
            assert!(SCRIPT.contains(&format!("\nstep_{name}() {{")), "{name}");
        }
    }

    #[test]
    fn stamps_the_version_it_is_kept_as() {
        assert!(SCRIPT.contains(&format!("KUBERNETES={}\n", VERSION.trim_start_matches('v'))));
    }

    #[test]
    fn compiles_nothing_for_a_missing_kubectl() {
        assert_eq!(
            Wanted {
                kubectl: true,
                ..Wanted::default()
            }
            .steps(),
            [INDEX, KUBECTL]
        );
    }
}
