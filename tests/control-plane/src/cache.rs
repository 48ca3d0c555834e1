//! The folder that keeps what was downloaded or compiled, outside of any checkout, so that a fresh clone starts at once.

use std::env;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::error::tail;

/// What a version's folder holds once it is complete; kubectl may come from elsewhere.
pub(crate) const PROGRAMS: [&str; 3] = ["etcd", "kube-apiserver", "kube-controller-manager"];

const WORK_PREFIX: &str = "work-";

#[derive(Clone, Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    pub(crate) fn open() -> Result<Self, Error> {
        let base = env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| env::home_dir().map(|home| home.join(".cache")))
            .ok_or_else(|| Error::Unexpected("neither XDG_CACHE_HOME nor HOME is set: set one".to_owned()))?;
        Self::at(base.join("appcode-operator/control-plane"))
    }

    pub(crate) fn at(folder: PathBuf) -> Result<Self, Error> {
        fs::create_dir_all(&folder).map_err(Error::file("make", &folder))?;
        Ok(Self { folder })
    }

    /// The folder of one Kubernetes version, such as `v1.20.2`; it need not exist.
    pub(crate) fn version(&self, version: &str) -> PathBuf {
        self.folder.join(version)
    }

    pub(crate) fn durations(&self) -> PathBuf {
        self.folder.join("durations.json")
    }

    /// The file that a failed step's output is kept in.
    pub(crate) fn log(&self, step: &str) -> PathBuf {
        self.folder.join(format!("{step}.log"))
    }

    /// Holds off everyone else who would fill the cache, until the file is dropped. Waits for whoever fills it now.
    pub(crate) async fn lock(&self) -> Result<File, Error> {
        let path = self.folder.join("lock");
        let file = File::create(&path).map_err(Error::file("make", &path))?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(Error::file("lock", &path)(error)),
        }
        eprintln!("Another process is getting the control plane's programs; waiting for it.");
        let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await;
        match locked {
            Ok(result) => result.map_err(Error::file("lock", &path)),
            Err(error) => Err(Error::Unexpected(format!(
                "the wait for {} broke off: {error}",
                path.display()
            ))),
        }
    }

    /// A scratch folder on the cache's own file system, so that what is made in it can be renamed into place. Call it
    /// under the lock: it removes what killed builds left, which may be gigabytes.
    pub(crate) fn work(&self) -> Result<tempfile::TempDir, Error> {
        for entry in fs::read_dir(&self.folder)
            .map_err(Error::file("read", &self.folder))?
            .flatten()
        {
            if entry.file_name().to_string_lossy().starts_with(WORK_PREFIX) {
                fs::remove_dir_all(entry.path()).map_err(Error::file("remove", &entry.path()))?;
            }
        }
        tempfile::Builder::new()
            .prefix(WORK_PREFIX)
            .tempdir_in(&self.folder)
            .map_err(Error::file("write to", &self.folder))
    }

    /// Moves finished programs to where they are looked for. Each appears whole or not at all.
    pub(crate) fn keep(&self, made: &Path, version: &str) -> Result<(), Error> {
        let folder = self.version(version);
        fs::create_dir_all(&folder).map_err(Error::file("make", &folder))?;
        for entry in fs::read_dir(made).map_err(Error::file("read", made))? {
            let entry = entry.map_err(Error::file("read", made))?;
            let place = folder.join(entry.file_name());
            fs::rename(entry.path(), &place).map_err(Error::file("write", &place))?;
        }
        Ok(())
    }

    /// Why a step failed, with its output kept beside the cache, as the scratch folder is about to go.
    pub(crate) fn failed_step(&self, name: &str, step: &'static str, output: &Path) -> Error {
        let log = self.log(name);
        let tail = tail(output);
        // Without the copy the error still carries the end of it.
        let _ = fs::copy(output, &log);
        Error::Step { step, log, tail }
    }
}

pub(crate) fn is_complete(folder: &Path) -> bool {
    PROGRAMS.iter().all(|program| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_complete_only_when_every_program_has_arrived() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::at(home.path().join("cache")).unwrap();
        let work = cache.work().unwrap();
        for program in PROGRAMS {
            assert!(!is_complete(&cache.version("v1.2.3")));
            fs::write(work.path().join(program), "").unwrap();
            cache.keep(work.path(), "v1.2.3").unwrap();
        }
        assert!(is_complete(&cache.version("v1.2.3")));
    }

    #[test]
    fn removes_what_a_killed_build_left() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::at(home.path().to_path_buf()).unwrap();
        let left = home.path().join("work-left");
        fs::create_dir(&left).unwrap();
        let _work = cache.work().unwrap();
        assert!(!left.exists());
    }

    #[tokio::test]
    async fn makes_a_second_starter_wait_for_the_first() {
        let home = tempfile::tempdir().unwrap();
        let cache = Cache::at(home.path().to_path_buf()).unwrap();
        let first = cache.lock().await.unwrap();
        let waiting = tokio::spawn({
            let cache = cache.clone();
            async move { cache.lock().await.map(drop) }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap().unwrap();
    }
}
