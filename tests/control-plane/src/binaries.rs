use std::env;
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::Error;
use crate::cache::{Cache, PROGRAMS, is_complete};
use crate::published;
use crate::source::{self, Wanted};

const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// The programs of a control plane.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The program `etcd`.
    pub etcd: PathBuf,
    /// The program `kube-apiserver`.
    pub apiserver: PathBuf,
    /// The program `kube-controller-manager`, of the same release as the server.
    pub controller_manager: PathBuf,
    /// The program `kubectl`; not always of the same release.
    pub kubectl: PathBuf,
    /// The server's release, such as `v1.20.2`.
    pub version: String,
}

impl Binaries {
    /// Finds the programs, or gets them: see the crate's own documentation for where from. Says on standard error what
    /// it does when that takes time. Of several processes that call this at once, one works and the others wait.
    pub async fn obtain() -> Result<Self, Error> {
        let cache = Cache::open()?;
        match env::var_os(ASSETS).filter(|value| !value.is_empty()) {
            Some(folder) => Self::from_assets(&cache, PathBuf::from(folder)).await,
            None => Self::from_cache(&cache).await,
        }
    }

    /// The minor number of the server's release: 33 of `v1.33.0`.
    pub fn minor(&self) -> Option<u32> {
        self.version.split('.').nth(1)?.parse().ok()
    }

    async fn from_cache(cache: &Cache) -> Result<Self, Error> {
        if let Some(found) = Self::cached(cache) {
            return Ok(found);
        }
        let _lock = cache.lock().await?;
        // Whoever held the lock until now may have made what is missing here.
        if complete_version(cache).is_none()
            && let Err(error) = published::download(cache).await
        {
            eprintln!("{error}.\nThe programs are made from Debian's packages instead.");
            let wanted = Wanted {
                servers: true,
                kubectl: find_kubectl(&cache.version(source::VERSION)).is_none(),
                prometheus: false,
            };
            source::build(cache, wanted, source::VERSION).await?;
        }
        if let Some(version) = complete_version(cache)
            && find_kubectl(&cache.version(version)).is_none()
        {
            source::build(
                cache,
                Wanted {
                    kubectl: true,
                    ..Wanted::default()
                },
                version,
            )
            .await?;
        }
        Self::cached(cache).ok_or_else(incomplete)
    }

    fn cached(cache: &Cache) -> Option<Self> {
        let version = complete_version(cache)?;
        let folder = cache.version(version);
        let kubectl = find_kubectl(&folder)?;
        let [etcd, apiserver, controller_manager] = PROGRAMS.map(|program| folder.join(program));
        Some(Self {
            etcd,
            apiserver,
            controller_manager,
            kubectl,
            version: version.to_owned(),
        })
    }

    async fn from_assets(cache: &Cache, folder: PathBuf) -> Result<Self, Error> {
        let [etcd, apiserver, controller_manager] = PROGRAMS.map(|program| folder.join(program));
        for (path, missing) in [(&etcd, "etcd"), (&apiserver, "kube-apiserver")] {
            if !path.is_file() {
                let hint = "put it there, or unset the variable to have it got for you".to_owned();
                return Err(Error::Assets { folder, missing, hint });
            }
        }
        let version = version_of(&apiserver).await?;
        let ours = cache.version(&version);
        let controller_manager = if controller_manager.is_file() {
            controller_manager
        } else {
            // The published archive, which such folders usually come from, leaves it out.
            let manager = ours.join("kube-controller-manager");
            if !manager.is_file() {
                let _lock = cache.lock().await?;
                if let Err(error) = published::download_controller_manager(cache, &version).await {
                    let hint = format!("put the one of {version} there, or unset the variable; {error}");
                    return Err(Error::Assets {
                        folder,
                        missing: "kube-controller-manager",
                        hint,
                    });
                }
            }
            manager
        };
        if find_kubectl(&folder).or_else(|| find_kubectl(&ours)).is_none() {
            let _lock = cache.lock().await?;
            source::build(
                cache,
                Wanted {
                    kubectl: true,
                    ..Wanted::default()
                },
                &version,
            )
            .await?;
        }
        let kubectl = find_kubectl(&folder)
            .or_else(|| find_kubectl(&ours))
            .ok_or_else(incomplete)?;
        Ok(Self {
            etcd,
            apiserver,
            controller_manager,
            kubectl,
            version,
        })
    }
}

fn incomplete() -> Error {
    Error::Unexpected("every step succeeded, and still a program is missing".to_owned())
}

fn complete_version(cache: &Cache) -> Option<&'static str> {
    [published::VERSION, source::VERSION]
        .into_iter()
        .find(|version| is_complete(&cache.version(version)))
}

fn find_kubectl(folder: &Path) -> Option<PathBuf> {
    find(folder, "kubectl")
}

/// The program in the folder, else the one that a person here would use.
pub(crate) fn find(folder: &Path, program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    [folder.to_path_buf()]
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|folder| folder.join(program))
        .find(|program| program.is_file())
}

async fn version_of(apiserver: &Path) -> Result<String, Error> {
    let program = || apiserver.display().to_string();
    let output = Command::new(apiserver).arg("--version").output().await;
    let output = output.map_err(|source| Error::Run {
        program: program(),
        hint: "",
        source,
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.trim().strip_prefix("Kubernetes ") {
        Some(version) if version.starts_with('v') => Ok(version.to_owned()),
        _ => Err(Error::Unexpected(format!(
            "{} --version says {text:?}, which is no version",
            program()
        ))),
    }
}
