//! What the watches do: they may lag, be cut and list anew, or tell everything twice.

use std::sync::Mutex;
use std::time::Duration;

use jiff::Timestamp;

#[derive(Default)]
pub struct Sight(Mutex<Seen>);

/// What a process has to do to be up to date.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Nothing is told before this time.
    dark_until: Option<Timestamp>,
    /// Listings so far.
    pub listings: u32,
    /// How often what was told last came again.
    pub repeats: u32,
}

impl Seen {
    pub fn is_dark(&self, now: Timestamp) -> bool {
        self.dark_until.is_some_and(|until| now < until)
    }
}

impl Sight {
    pub fn now(&self) -> Seen {
        *self.0.lock().unwrap()
    }

    /// Nothing is told for so long; then everything is.
    pub fn lag(&self, now: Timestamp, time: Duration) {
        self.0.lock().unwrap().dark_until = Some(now + time);
    }

    /// Nothing is told for so long; then what happened meanwhile is forgotten, and all is listed anew.
    pub fn cut(&self, now: Timestamp, time: Duration) {
        self.lag(now, time);
        self.0.lock().unwrap().listings += 1;
    }

    /// What was told last is told again, from older to newer.
    pub fn repeat(&self) {
        self.0.lock().unwrap().repeats += 1;
    }
}
