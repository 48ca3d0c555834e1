//! Tells a person on standard error which step runs, how far it is and how long it took the last time.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::Error;

/// How often a long step says that it is still at work.
const TICK: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Progress {
    file: PathBuf,
    /// Seconds that each step took when it last succeeded, by the step's name.
    last: BTreeMap<String, u64>,
    done: usize,
    total: usize,
}

impl Progress {
    /// `total` is the number of steps to come; `file` keeps how long each took.
    pub(crate) fn new(file: PathBuf, total: usize) -> Self {
        // A file that cannot be read costs an estimate, nothing else.
        let last = fs::read(&file)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        Self {
            file,
            last,
            done: 0,
            total,
        }
    }

    pub(crate) async fn step<T>(
        &mut self,
        name: &str,
        what: &str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        self.done += 1;
        let place = format!("[{}/{}]", self.done, self.total);
        let last = self
            .last
            .get(name)
            .map_or_else(|| "first time".to_owned(), |&last| format!("last time {}", human(last)));
        eprintln!("{place} {what} ({last})");
        let began = Instant::now();
        let result = ticking(&place, began, work).await;
        let took = began.elapsed().as_secs();
        match &result {
            Ok(_) => {
                eprintln!("{place} done in {}", human(took));
                self.last.insert(name.to_owned(), took);
                self.write();
            }
            Err(_) => eprintln!("{place} failed after {}", human(took)),
        }
        result
    }

    fn write(&self) {
        // As for reading: not worth failing for.
        if let Ok(text) = serde_json::to_vec_pretty(&self.last) {
            let _ = fs::write(&self.file, text);
        }
    }
}

async fn ticking<T>(place: &str, began: Instant, work: impl Future<Output = T>) -> T {
    let mut ticks = tokio::time::interval(TICK);
    ticks.tick().await;
    tokio::pin!(work);
    loop {
        tokio::select! {
            result = &mut work => return result,
            _ = ticks.tick() => eprintln!("{place} ... {} so far", human(began.elapsed().as_secs())),
        }
    }
}

fn human(seconds: u64) -> String {
    if seconds < 60 {
        format!("{seconds}s")
    } else {
        format!("{}m{:02}s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn remembers_how_long_a_step_took_unless_it_failed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("durations.json");
        let mut progress = Progress::new(file.clone(), 2);
        progress.step("good", "succeed", async { Ok(()) }).await.unwrap();
        progress
            .step("bad", "fail", async { Err::<(), _>(Error::Ports { program: "x" }) })
            .await
            .unwrap_err();
        let again = Progress::new(file, 2);
        assert_eq!(again.last.keys().collect::<Vec<_>>(), ["good"]);
    }

    #[test]
    fn writes_times_as_people_say_them() {
        assert_eq!([human(7), human(60), human(605)], ["7s", "1m00s", "10m05s"]);
    }
}
