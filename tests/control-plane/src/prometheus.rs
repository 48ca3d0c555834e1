//! Prometheus, which is no part of a control plane but has to be got in the same way.

use std::path::PathBuf;

use crate::Error;
use crate::binaries::find;
use crate::cache::Cache;
use crate::source::{self, Wanted};

/// The folder of the cache that keeps it, named for the release of Debian that it comes from.
const FOLDER: &str = "prometheus-bookworm";

/// The programs of Prometheus.
#[derive(Clone, Debug)]
pub struct Prometheus {
    /// The program `prometheus`.
    pub server: PathBuf,
    /// The program `promtool`.
    pub promtool: PathBuf,
}

impl Prometheus {
    /// Finds the programs in the cache or on the `PATH`, or unpacks them from Debian's package, as
    /// [`Binaries::obtain`](crate::Binaries::obtain) does.
    pub async fn obtain() -> Result<Self, Error> {
        let cache = Cache::open()?;
        if let Some(found) = Self::cached(&cache) {
            return Ok(found);
        }
        let _lock = cache.lock().await?;
        // Whoever held the lock until now may have made what is missing here.
        if Self::cached(&cache).is_none() {
            let wanted = Wanted {
                prometheus: true,
                ..Wanted::default()
            };
            source::build(&cache, wanted, FOLDER).await?;
        }
        let lost = || Error::Unexpected("Prometheus was unpacked, and still a program of it is missing".to_owned());
        Self::cached(&cache).ok_or_else(lost)
    }

    fn cached(cache: &Cache) -> Option<Self> {
        let folder = cache.version(FOLDER);
        Some(Self {
            server: find(&folder, "prometheus")?,
            promtool: find(&folder, "promtool")?,
        })
    }
}
