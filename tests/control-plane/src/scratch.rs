//! The folder of one running control plane. It goes when its [`Scratch`] is dropped; what a killed process left is
//! removed by the next one to start, as nobody is there to do it earlier.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::Error;

const PREFIX: &str = "appcode-operator-control-plane-";
const NEW_PREFIX: &str = "new-appcode-operator-control-plane-";
const LOCK: &str = "in-use";

#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
    /// Locked as long as this process lives: the sign that the folder is in use.
    _in_use: File,
}

impl Scratch {
    /// Makes a folder under `parent` that only this user can read, as it will hold credentials.
    pub(crate) fn new_in(parent: &Path) -> Result<Self, Error> {
        sweep(parent);
        // Locked under a name that no sweep looks at, and only then renamed: it is never there without its lock.
        let made = tempfile::Builder::new().prefix(NEW_PREFIX).tempdir_in(parent);
        let made = made.map_err(Error::file("make a folder in", parent))?;
        let lock = made.path().join(LOCK);
        let in_use = File::create(&lock).map_err(Error::file("write", &lock))?;
        in_use.lock().map_err(Error::file("lock", &lock))?;
        let name = made
            .path()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .replacen(NEW_PREFIX, PREFIX, 1);
        let path = parent.join(name);
        fs::rename(made.path(), &path).map_err(Error::file("rename", made.path()))?;
        Ok(Self { path, _in_use: in_use })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is left to the next sweep.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes folders whose owner is gone. Whatever cannot be read or removed, such as another user's, is passed over.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if ours && File::open(entry.path().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_itself_and_what_a_killed_owner_left_but_nothing_in_use() {
        let parent = tempfile::tempdir().unwrap();
        let left = parent.path().join(format!("{PREFIX}left"));
        fs::create_dir(&left).unwrap();
        File::create(left.join(LOCK)).unwrap();
        let first = Scratch::new_in(parent.path()).unwrap();
        let second = Scratch::new_in(parent.path()).unwrap();
        assert!(!left.exists());
        assert!(first.path().exists() && second.path().exists());
        drop((first, second));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
