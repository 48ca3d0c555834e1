//! The files by which an image and a release are made, as far as they can be read without making one.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use pretty_assertions::assert_eq;
use serde_json::{Value, json};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
}

fn workflows() -> Vec<(String, String, Value)> {
    let folder = std::fs::read_dir(root().join(".github/workflows")).unwrap();
    let names = folder.map(|file| file.unwrap().file_name().into_string().unwrap());
    let parse = |name: String| {
        let text = read(&format!(".github/workflows/{name}"));
        let value = serde_saphyr::from_str(&text).unwrap();
        (name, text, value)
    };
    let workflows: Vec<_> = names.map(parse).collect();
    assert!(workflows.len() >= 2);
    workflows
}

/// A tag of somebody else's repository can be moved to other code, which would then run with our rights.
#[test]
fn each_action_is_named_by_commit_with_its_version_beside() {
    for (name, text, _) in workflows() {
        let uses = text
            .lines()
            .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("uses: "));
        for action in uses.filter(|action| !action.starts_with("./")) {
            let (reference, version) = action.split_once(" # v").unwrap_or_else(|| panic!("{name}: {action}"));
            let (_, commit) = reference.split_once('@').unwrap();
            assert!(
                commit.len() == 40 && commit.chars().all(|c| c.is_ascii_hexdigit()),
                "{name}: {action}"
            );
            assert_eq!(version.split('.').count(), 3, "{name}: {action}");
        }
    }
}

#[test]
fn each_job_has_the_rights_that_it_names_and_an_end() {
    for (name, _, workflow) in workflows() {
        assert_eq!(workflow["permissions"], json!({}), "{name}: nothing by default");
        for (job, what) in workflow["jobs"].as_object().unwrap() {
            assert!(what["permissions"].is_object(), "{name}: {job}");
            assert!(
                what["timeout-minutes"].is_number() || what["uses"].is_string(),
                "{name}: {job}"
            );
            let writes = what["permissions"]
                .as_object()
                .unwrap()
                .values()
                .any(|right| right == "write");
            assert!(!writes || name == "release.yml", "{name}: {job}");
        }
    }
}

/// What a tenant's text could be put into: an expression inside of a script is replaced before the shell reads it.
#[test]
fn no_script_of_a_workflow_has_an_expression_in_it() {
    for (name, _, workflow) in workflows() {
        for job in workflow["jobs"].as_object().unwrap().values() {
            for step in job["steps"].as_array().into_iter().flatten() {
                let script = step["run"].as_str().unwrap_or_default();
                assert!(!script.contains("${{"), "{name}: {script}");
            }
        }
    }
}

#[test]
fn the_release_is_signed_has_provenance_checksums_and_a_list_of_crates() {
    let text = read(".github/workflows/release.yml");
    for what in [
        "uses: ./.github/workflows/ci.yml",
        "provenance: mode=max",
        "sbom: true",
        "arch: amd64",
        "arch: arm64",
        "cargo cyclonedx",
        "helm push",
        "cosign sign --yes",
        "cosign attest --yes",
        "cosign sign-blob --yes",
        "sha256sum",
        "attest-build-provenance",
    ] {
        assert!(text.contains(what), "{what}");
    }
}

/// Where images come from and go to is for whoever builds to say.
#[test]
fn no_file_of_the_release_names_the_host_of_a_registry() {
    let dockerfile = read("Dockerfile");
    let images = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("ARG ")?.split_once('='));
    let images: Vec<&str> = images
        .map(|(_, value)| value)
        .filter(|value| value.contains(':'))
        .collect();
    assert!(images.len() >= 2, "{images:?}");
    for image in images.iter().filter(|image| !image.contains("T00:00")) {
        let first = image.split('/').next().unwrap_or_default();
        assert!(!image.contains('/') || !first.contains(['.', ':']), "{image}");
    }
    let release = &workflows()
        .into_iter()
        .find(|(name, ..)| name == "release.yml")
        .unwrap()
        .2;
    for job in release["jobs"].as_object().unwrap().values() {
        for step in job["steps"].as_array().into_iter().flatten() {
            let registry = step["with"]["registry"].as_str().unwrap_or("${{ vars.REGISTRY }}");
            assert_eq!(registry, "${{ vars.REGISTRY }}");
        }
    }
}

#[test]
fn the_image_runs_as_the_user_of_the_pod_and_is_labelled_with_the_version() {
    let dockerfile = read("Dockerfile");
    let last = dockerfile.rsplit("\nFROM ").next().unwrap();
    assert!(
        last.starts_with("scratch\n"),
        "nothing but what is copied is in the image"
    );
    assert!(last.contains("\nUSER 65532:65532\n"));
    assert!(last.contains("\nENTRYPOINT [\"/usr/bin/appcode-operator\"]"));
    assert!(last.contains(&format!("\nARG VERSION={}\n", env!("CARGO_PKG_VERSION"))));
    assert!(dockerfile.contains("cargo build --release --locked"));
    let path = ["deploy/kustomize/base/deployment.yaml", "deploy/deployment.yaml"];
    let path = path.into_iter().find(|path| root().join(path).exists()).unwrap();
    let text = read(path);
    let deployment: Value = serde_saphyr::from_str(text.split("\n---\n").next().unwrap()).unwrap();
    let context = &deployment["spec"]["template"]["spec"]["securityContext"];
    assert_eq!(
        (&context["runAsUser"], &context["runAsGroup"]),
        (&json!(65532), &json!(65532))
    );
    // What the build may read is listed, so that no key that lies beside the code gets into a layer.
    assert!(read(".dockerignore").lines().any(|line| line == "*"));
}

/// The script of a step of the release, by the beginning of its name.
fn release_step(name: &str) -> String {
    let (_, _, release) = workflows()
        .into_iter()
        .find(|(file, ..)| file == "release.yml")
        .unwrap();
    let jobs = release["jobs"].as_object().unwrap().values();
    let mut steps = jobs.flat_map(|job| job["steps"].as_array().into_iter().flatten());
    let step = steps.find(|step| step["name"].as_str().is_some_and(|found| found.starts_with(name)));
    step.unwrap_or_else(|| panic!("no step {name}"))["run"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// What `actions/upload-artifact` takes in no name, since some file systems cannot hold it.
const FORBIDDEN: [char; 9] = ['"', ':', '<', '>', '|', '*', '?', '\r', '\n'];

#[test]
fn the_files_that_a_job_hands_on_have_names_that_an_artifact_may_have() {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let folder = tempfile::tempdir().unwrap();
    for name in ["LICENSE", "README.md"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    let docker = folder.path().join("bin/docker");
    std::fs::create_dir(docker.parent().unwrap()).unwrap();
    std::fs::write(
        &docker,
        "#!/bin/sh\ncase $1 in create) echo id;; cp) echo program > \"$3/appcode-operator\";; esac\n",
    )
    .unwrap();
    std::fs::set_permissions(&docker, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!(
        "{}:{}",
        docker.parent().unwrap().display(),
        std::env::var("PATH").unwrap()
    );
    let mut bash = Command::new("bash");
    bash.args(["-eo", "pipefail", "-c", &release_step("The digest")]);
    bash.current_dir(folder.path()).env("PATH", path);
    bash.envs([
        ("DIGEST", digest.as_str()),
        ("IMAGE", "image"),
        ("NAME", "program-linux-amd64"),
    ]);
    let output = bash.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut names = Vec::new();
    for part in ["out", "out/digests"] {
        for entry in std::fs::read_dir(folder.path().join(part)).unwrap() {
            names.push(entry.unwrap().file_name().into_string().unwrap());
        }
    }
    names.sort();
    let hex = digest.trim_start_matches("sha256:");
    assert_eq!(names, [hex, "digests", "program-linux-amd64.tar.gz"]);
    assert!(names.iter().all(|name| !name.contains(FORBIDDEN)), "{names:?}");
    // The next job reads what it is to join from the content.
    assert_eq!(
        std::fs::read_to_string(folder.path().join("out/digests").join(hex)).unwrap(),
        format!("{digest}\n")
    );
}

/// What the release looks for in the changelog is what stands there.
#[test]
fn the_changelog_has_headings_of_the_form_that_the_release_finds() {
    assert!(release_step("The tag is the version").contains("grep -qF \"## $version - \" CHANGELOG.md"));
    assert!(release_step("Release").contains("\"## \" version \" - \""));
    for heading in read("CHANGELOG.md").lines().filter_map(|line| line.strip_prefix("## ")) {
        let is_dated = heading.split_once(" - ").is_some_and(|(version, day)| {
            let numbers = version.split(['-', '+']).next().unwrap().split('.');
            numbers.clone().count() == 3
                && numbers.clone().all(|number| number.parse::<u32>().is_ok())
                && day.parse::<jiff::civil::Date>().is_ok()
        });
        assert!(is_dated || heading == "Unreleased", "{heading}");
    }
}

/// Every place that names the version of a release; `Cargo.lock` is what `--locked` looks after.
#[test]
fn one_version_stands_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    for (file, line) in [
        (
            "deploy/helm/appcode-operator/Chart.yaml",
            format!("\nversion: {version}\n"),
        ),
        (
            "deploy/helm/appcode-operator/Chart.yaml",
            format!("\nappVersion: {version}\n"),
        ),
        ("Dockerfile", format!("\nARG VERSION={version}\n")),
        ("Dockerfile", format!(" appcode-operator:{version} ")),
        (
            "deploy/kustomize/base/deployment.yaml",
            format!("image: appcode-operator:{version}\n"),
        ),
        ("docs/gitops.md", format!("targetRevision: v{version}\n")),
        ("docs/gitops.md", format!("tag: {version}\n")),
        (
            "fuzz/Cargo.lock",
            format!("name = \"appcode-operator\"\nversion = \"{version}\"\n"),
        ),
    ] {
        assert!(read(file).contains(&line), "{file}: {line}");
    }
}

/// `make deny` passes where the tool is missing; this must not.
#[test]
fn ci_checks_licences_and_advisories_with_one_version_of_the_tool() {
    let (_, _, ci) = workflows().into_iter().find(|(file, ..)| file == "ci.yml").unwrap();
    let steps = ci["jobs"]["dependencies"]["steps"].as_array().unwrap();
    let script = steps.iter().find_map(|step| step["run"].as_str()).unwrap();
    let lines: Vec<&str> = script.lines().collect();
    let [install, check] = lines.as_slice() else {
        panic!("{script}")
    };
    let version = install.strip_prefix("cargo install --locked --version ").unwrap();
    assert_eq!(version.split_once(' ').unwrap().0.split('.').count(), 3);
    assert_eq!(*check, "cargo deny --locked check");
}
