//! Faults of the cloud on a low flame: one call now and then.

use std::time::Duration;

use cloud_simulator::{Fault, LostAnswer, Operation, Simulator};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

/// Orders faults, so many for a thousand rotations.
pub struct Flame<'a> {
    cloud: &'a Simulator,
    share: f64,
    random: StdRng,
    kinds: Vec<Fault>,
    ordered: usize,
}

impl<'a> Flame<'a> {
    /// `seed` chooses which and when.
    pub fn new(cloud: &'a Simulator, in_a_thousand: u32, seed: u64) -> Self {
        Self {
            cloud,
            share: (f64::from(in_a_thousand) / 1000.0).min(1.0),
            random: StdRng::seed_from_u64(seed),
            kinds: kinds(),
            ordered: 0,
        }
    }

    /// Maybe orders one. It strikes the next call that it fits, whoever makes it.
    pub fn flicker(&mut self) {
        if !self.random.random_bool(self.share) {
            return;
        }
        if let Some(fault) = self.kinds.choose(&mut self.random) {
            self.cloud.inject(fault.clone());
            self.ordered += 1;
        }
    }

    /// From now on nothing goes wrong.
    pub fn stop(&self) {
        self.cloud.clear_all();
    }

    /// How many there were.
    pub fn told(&self) -> String {
        format!("{} faults", self.ordered)
    }
}

/// Answers that are lost, late or errors, before and after the work is done.
fn kinds() -> Vec<Fault> {
    let later = Duration::from_millis(1500);
    let of_reset = [
        Fault::cut_before(),
        Fault::cut_after(),
        Fault::cut_in_answer(),
        Fault::status_before(503),
        Fault::status_after(500),
        Fault::throttle(Some("1")),
        Fault::slow_answer(later),
        // The answer never comes and the work is done after that.
        Fault::late(Some(later), LostAnswer::Cut),
        // Longer than the request deadline.
        Fault::slow_answer(2 * later),
    ];
    let of_show = [
        Fault::cut_before(),
        Fault::status_before(500),
        Fault::throttle(Some("1")),
        Fault::slow_answer(later),
    ];
    let of_reset = of_reset.into_iter().map(|fault| fault.at(Operation::Reset));
    let of_show = of_show.into_iter().map(|fault| fault.at(Operation::Show));
    of_reset.chain(of_show).map(Fault::once).collect()
}
