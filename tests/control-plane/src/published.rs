//! Programs as their makers publish them: the envtest archive (etcd, kube-apiserver, kubectl), and the controller
//! manager of the same release, which the archive does not hold.

use std::env::consts::ARCH;
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use sha2::{Digest, Sha256, Sha512};
use tokio::process::Command;

use crate::Error;
use crate::cache::Cache;
use crate::config::hex;
use crate::progress::Progress;

/// A release of the middle: the operator supports 1.20 and later, and where this one cannot be downloaded the tests run on the 1.20
/// that [`source`](crate::source) builds.
pub(crate) const VERSION: &str = "v1.33.0";

/// How long a machine without internet waits before the next way is tried.
const CONNECT: Duration = Duration::from_secs(3);
/// How long a connection may be silent before it counts as broken.
const SILENCE: Duration = Duration::from_secs(20);

/// Where the programs are published.
#[derive(Clone, Copy, Debug)]
struct Places<'a> {
    archives: &'a str,
    releases: &'a str,
}

const PLACES: Places<'static> = Places {
    archives: "https://github.com/kubernetes-sigs/controller-tools/releases/download",
    releases: "https://dl.k8s.io/release",
};

/// SHA-512 of the archive of [`VERSION`], as the project that makes it lists them.
fn archive() -> Option<(&'static str, &'static str)> {
    match ARCH {
        "x86_64" => Some((
            "amd64",
            "2cb7f5468ed7cea1492f971b715bcc27069e824cf7d5927b7f127f1e8c75cf08\
             6eea050543cdb5f79faee0a2bf775f160adf27443aa7ee845d962d04e9d43ac9",
        )),
        "aarch64" => Some((
            "arm64",
            "366ba32b2154c16e0ce952ed69731feefed187c88030f76a14bda5921a498d0a\
             a25528629fc41c225cf78c91fd4a424a472e38efec91e8fcbd254fac0e150a54",
        )),
        _ => None,
    }
}

/// Downloads all programs of [`VERSION`] and keeps them. Call it under the cache's lock.
pub(crate) async fn download(cache: &Cache) -> Result<(), Error> {
    let (arch, sum) = archive().ok_or_else(|| unsupported(ARCH))?;
    download_from(PLACES, cache, arch, sum).await
}

/// Downloads the controller manager of the given release and keeps it. Call it under the cache's lock.
pub(crate) async fn download_controller_manager(cache: &Cache, version: &str) -> Result<(), Error> {
    let (arch, _) = archive().ok_or_else(|| unsupported(ARCH))?;
    let work = cache.work()?;
    let made = work.path().join("made");
    fs::create_dir(&made).map_err(Error::file("make", &made))?;
    let mut progress = Progress::new(cache.durations(), 1);
    let manager = controller_manager(PLACES, version, arch, &made);
    progress
        .step(
            "published-controller-manager",
            "download kube-controller-manager",
            manager,
        )
        .await?;
    cache.keep(&made, version)
}

fn unsupported(arch: &str) -> Error {
    Error::Download {
        url: "the envtest archive".to_owned(),
        reason: format!("none is published for {arch}"),
    }
}

async fn download_from(places: Places<'_>, cache: &Cache, arch: &str, sum: &str) -> Result<(), Error> {
    let work = cache.work()?;
    let made = work.path().join("made");
    fs::create_dir(&made).map_err(Error::file("make", &made))?;
    let mut progress = Progress::new(cache.durations(), 2);
    progress
        .step("published-archive", "download the published envtest archive", async {
            let file = work.path().join("envtest.tar.gz");
            let url = format!(
                "{}/envtest-{VERSION}/envtest-{VERSION}-linux-{arch}.tar.gz",
                places.archives
            );
            fetch::<Sha512>(&url, &file, sum).await?;
            unpack(cache, &file, &made).await
        })
        .await?;
    let manager = controller_manager(places, VERSION, arch, &made);
    progress
        .step(
            "published-controller-manager",
            "download kube-controller-manager",
            manager,
        )
        .await?;
    cache.keep(&made, VERSION)
}

async fn controller_manager(places: Places<'_>, version: &str, arch: &str, made: &Path) -> Result<(), Error> {
    let url = format!("{}/{version}/bin/linux/{arch}/kube-controller-manager", places.releases);
    let sum_url = format!("{url}.sha256");
    let sum = get(&sum_url)
        .await?
        .text()
        .await
        .map_err(|error| failed(&sum_url, error))?;
    let file = made.join("kube-controller-manager");
    fetch::<Sha256>(&url, &file, sum.trim()).await?;
    fs::set_permissions(&file, Permissions::from_mode(0o755)).map_err(Error::file("make executable", &file))
}

async fn unpack(cache: &Cache, archive: &Path, made: &Path) -> Result<(), Error> {
    // The archive's files lie in controller-tools/envtest/.
    let output = Command::new("tar")
        .args(["--extract", "--gzip", "--strip-components=2", "--file"])
        .arg(archive)
        .arg("--directory")
        .arg(made)
        .output()
        .await
        .map_err(|source| Error::Run {
            program: "tar".to_owned(),
            hint: "apt-get install tar",
            source,
        })?;
    if output.status.success() {
        return Ok(());
    }
    let log = archive.with_extension("log");
    fs::write(&log, output.stderr).map_err(Error::file("write", &log))?;
    Err(cache.failed_step("published-archive", "unpack the published envtest archive", &log))
}

async fn get(url: &str) -> Result<reqwest::Response, Error> {
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT)
        .read_timeout(SILENCE)
        .build();
    let response = client.map_err(|error| failed(url, error))?.get(url).send().await;
    response
        .and_then(reqwest::Response::error_for_status)
        .map_err(|error| failed(url, error))
}

/// Downloads a file whose digest must be `sum`, in hexadecimal.
async fn fetch<D: Digest>(url: &str, file: &Path, sum: &str) -> Result<(), Error> {
    let mut response = get(url).await?;
    let mut to = File::create(file).map_err(Error::file("write", file))?;
    let mut digest = D::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| failed(url, error))? {
        digest.update(&chunk);
        to.write_all(&chunk).map_err(Error::file("write", file))?;
    }
    let found = hex(&digest.finalize());
    if found.eq_ignore_ascii_case(sum) {
        Ok(())
    } else {
        Err(Error::Download {
            url: url.to_owned(),
            reason: format!("its digest is {found}, not {sum}"),
        })
    }
}

fn failed(url: &str, error: reqwest::Error) -> Error {
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    Error::Download {
        url: url.to_owned(),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;

    use super::*;
    use crate::cache::is_complete;

    const MANAGER: &[u8] = b"a controller manager";

    /// An archive laid out as the published one.
    fn envtest() -> Vec<u8> {
        let tree = tempfile::tempdir().unwrap();
        let folder = tree.path().join("controller-tools/envtest");
        fs::create_dir_all(&folder).unwrap();
        for program in ["etcd", "kube-apiserver", "kubectl"] {
            fs::write(folder.join(program), program).unwrap();
        }
        let tar = ["--create", "--gzip", "--directory"];
        let mut tar = std::process::Command::new("tar")
            .args(tar)
            .arg(tree.path())
            .arg("controller-tools")
            .output()
            .unwrap();
        assert!(tar.status.success());
        std::mem::take(&mut tar.stdout)
    }

    /// Serves the archive and a controller manager with its digest; gives the address.
    async fn serve(archive: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let mut stream = BufReader::new(stream);
                let mut request = String::new();
                stream.read_line(&mut request).await.unwrap();
                let path = request.split(' ').nth(1).unwrap();
                let body = match path {
                    "/envtest-v1.33.0/envtest-v1.33.0-linux-amd64.tar.gz" => archive.clone(),
                    "/v1.33.0/bin/linux/amd64/kube-controller-manager" => MANAGER.to_vec(),
                    "/v1.33.0/bin/linux/amd64/kube-controller-manager.sha256" => {
                        hex(&Sha256::digest(MANAGER)).into_bytes()
                    }
                    _ => panic!("nothing is published at {path}"),
                };
                let head = format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                    body.len()
                );
                stream.write_all(&[head.into_bytes(), body].concat()).await.unwrap();
            }
        });
        address
    }

    #[tokio::test]
    async fn keeps_every_program_of_the_release() {
        let archive = envtest();
        let sum = hex(&Sha512::digest(&archive));
        let address = serve(archive).await;
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::at(home.path().to_path_buf()).unwrap();
        let places = Places {
            archives: &address,
            releases: &address,
        };
        download_from(places, &cache, "amd64", &sum).await.unwrap();
        let folder = cache.version(VERSION);
        assert!(is_complete(&folder) && folder.join("kubectl").is_file());
        assert_eq!(
            fs::metadata(folder.join("kube-controller-manager")).unwrap().mode() & 0o777,
            0o755
        );
    }

    #[tokio::test]
    async fn keeps_nothing_of_an_archive_that_is_not_the_expected_one() {
        let address = serve(envtest()).await;
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::at(home.path().to_path_buf()).unwrap();
        let places = Places {
            archives: &address,
            releases: &address,
        };
        let error = download_from(places, &cache, "amd64", "00").await.unwrap_err();
        assert!(error.to_string().contains("digest"), "{error}");
        assert!(!cache.version(VERSION).exists());
    }

    #[tokio::test]
    async fn gives_up_where_nobody_answers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::at(home.path().to_path_buf()).unwrap();
        let places = Places {
            archives: &address,
            releases: &address,
        };
        let error = download_from(places, &cache, "amd64", "00").await.unwrap_err();
        assert!(matches!(error, Error::Download { .. }), "{error}");
    }
}
