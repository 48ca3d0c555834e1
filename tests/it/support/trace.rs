//! Every call, its outcome and its time, as text that two runs of one seed must share to the byte.

use std::sync::Mutex;

/// Nothing is kept until it is begun: most runs are never read.
#[derive(Default)]
pub struct Trace(Mutex<Option<Vec<String>>>);

impl Trace {
    pub fn begin(&self) {
        *self.0.lock().unwrap() = Some(Vec::new());
    }

    pub fn add(&self, line: impl FnOnce() -> String) {
        if let Some(lines) = &mut *self.0.lock().unwrap() {
            lines.push(line());
        }
    }

    pub fn text(&self) -> String {
        self.0
            .lock()
            .unwrap()
            .as_ref()
            .map_or_else(String::new, |lines| lines.join("\n"))
    }
}
