//! Which call is struck by what. Calls on the API server and on the cloud are counted together, in the order made. One call
//! may be struck twice: something happens just before or after it, and it fails by itself.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use appcode_operator::verification::Probe;
use cloud_simulator::{Fault, Operation};

use super::Stage;

/// One call that the operator made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Api {
        verb: Verb,
        resource: &'static str,
        name: String,
    },
    Cloud(Operation),
    /// A try of a new code at its service.
    Probe,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api { verb, resource, name } => write!(f, "{verb:?} {resource}/{name}"),
            Self::Cloud(operation) => write!(f, "cloud {operation:?}"),
            Self::Probe => write!(f, "try of the code"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    Get,
    List,
    Watch,
    Create,
    Patch,
    PutStatus,
    Other,
}

impl Verb {
    pub fn is_write(self) -> bool {
        !matches!(self, Self::Get | Self::List | Self::Watch)
    }
}

/// Before or after the call has had its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    Before,
    After,
}

/// What the API server does instead of answering well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiFault {
    Status(u16),
    /// The connection ends without an answer.
    Cut,
    /// No answer ever comes.
    Hang,
    /// What is read is the object as it was before it last changed.
    Stale,
}

/// How another process takes over while one stands still in the middle of a call, as one does that is starved or cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Takeover {
    /// Calls after which the former process goes on, from the one on at which it stood still; it does so anyway once the
    /// other one rests.
    pub after: usize,
    /// Whether it goes on as if it led, as it does where there is no Lease; else it knows that its lead is over.
    pub leads_on: bool,
}

/// Something that somebody else does.
#[derive(Clone)]
pub struct Act {
    pub name: &'static str,
    pub work: Arc<dyn Fn(&Stage) + Send + Sync>,
}

impl Act {
    pub fn new(name: &'static str, work: impl Fn(&Stage) + Send + Sync + 'static) -> Self {
        Self {
            name,
            work: Arc::new(work),
        }
    }
}

impl fmt::Debug for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// What strikes a call.
#[derive(Clone, Debug)]
pub enum Strike {
    Api(Moment, ApiFault),
    Cloud(Fault),
    /// What a try of a code gets instead of the service's answer.
    Probe(Probe),
    Crash(Moment),
    Act(Moment, Act),
    /// The process stands still for so long, as one does that is starved or whose machine sleeps.
    Pause(Moment, Duration),
    /// The process stands still for so long and loses its Lease by that: another one leads when it goes on.
    Lapse(Moment, Duration),
    /// The process is asked to end: it starts nothing any more, carries through what it has begun, and another one starts.
    Stop(Moment),
    /// Another process leads from now on.
    Takeover(Moment, Takeover),
}

impl Strike {
    /// Whether it can strike this call.
    fn fits(&self, call: &Call) -> bool {
        match (self, call) {
            (Self::Api(_, ApiFault::Stale), Call::Api { verb, .. }) => *verb == Verb::Get,
            (Self::Api(..), Call::Api { verb, .. }) => *verb != Verb::Watch,
            (Self::Cloud(fault), Call::Cloud(operation)) => fault.at.is_empty() || fault.at.contains(operation),
            (Self::Probe(_), Call::Probe)
            | (
                Self::Crash(_) | Self::Act(..) | Self::Pause(..) | Self::Lapse(..) | Self::Stop(_) | Self::Takeover(..),
                _,
            ) => true,
            (Self::Api(..) | Self::Cloud(_) | Self::Probe(_), _) => false,
        }
    }
}

/// A strike that waits for the first call, from a number on, that it fits.
#[derive(Clone, Debug)]
pub struct Armed {
    /// Names it to the test.
    pub id: usize,
    pub from: usize,
    pub strike: Strike,
    /// How many calls it strikes.
    pub times: usize,
}

/// A strike that has found its call.
#[derive(Clone, Debug)]
pub struct Hit {
    pub id: usize,
    pub number: usize,
    pub call: Call,
}

/// Picks the calls that are numbered.
pub type IsCounted = fn(&Call) -> bool;

/// The calls so far and the one strike that waits for its call.
#[derive(Default)]
pub struct Script(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    calls: Vec<Call>,
    strikes: Vec<(usize, Strike)>,
    /// Only such calls count towards the numbers of strikes, if there is a filter.
    counted: Option<(IsCounted, usize)>,
    /// What strikes every counted call from this number on.
    lasting: Option<(usize, Strike)>,
    armed: Vec<Armed>,
    hits: Vec<Hit>,
    struck: usize,
}

impl Inner {
    /// What was ordered for the call of this number.
    fn take(&mut self, number: usize) -> Vec<Strike> {
        let is_struck = |from: &usize| number != usize::MAX && number >= *from;
        let lasting = self.lasting.as_ref().filter(|(from, _)| is_struck(from));
        if let Some((_, strike)) = lasting {
            return vec![strike.clone()];
        }
        let taken = self.strikes.extract_if(.., |(at, _)| *at == number);
        taken.map(|(_, strike)| strike).collect()
    }

    fn take_armed(&mut self, number: usize, call: Call) -> Option<Strike> {
        let fits = |armed: &Armed| armed.from <= number && armed.strike.fits(&call);
        let place = self.armed.iter().position(fits)?;
        let armed = &mut self.armed[place];
        let strike = armed.strike.clone();
        let id = armed.id;
        armed.times -= 1;
        if armed.times == 0 {
            self.armed.remove(place);
        }
        self.hits.push(Hit { id, number, call });
        Some(strike)
    }
}

impl Script {
    /// Forgets what was called and orders what strikes from now on, each by the number of its call.
    pub fn begin(&self, strikes: Vec<(usize, Strike)>) {
        *self.0.lock().unwrap() = Inner {
            strikes,
            ..Inner::default()
        };
    }

    /// The same, but only calls that `is_counted` picks are numbered.
    pub fn begin_if(&self, strikes: Vec<(usize, Strike)>, is_counted: IsCounted) {
        *self.0.lock().unwrap() = Inner {
            strikes,
            counted: Some((is_counted, 0)),
            ..Inner::default()
        };
    }

    /// One strike for every call that `is_counted` picks, but for the first `skip` of them.
    pub fn begin_lasting(&self, strike: Strike, skip: usize, is_counted: IsCounted) {
        *self.0.lock().unwrap() = Inner {
            counted: Some((is_counted, 0)),
            lasting: Some((skip, strike)),
            ..Inner::default()
        };
    }

    /// Strikes that each wait for the first call that they fit.
    pub fn arm(&self, armed: Vec<Armed>) {
        *self.0.lock().unwrap() = Inner {
            armed,
            ..Inner::default()
        };
    }

    /// From now on nothing strikes.
    pub fn disarm(&self) {
        self.0.lock().unwrap().armed.clear();
    }

    /// Takes out the strike that waits longest, for a run that makes no more calls.
    pub fn next_armed(&self) -> Option<Armed> {
        let mut inner = self.0.lock().unwrap();
        let first = inner.armed.iter().enumerate().min_by_key(|(_, armed)| armed.from)?.0;
        Some(inner.armed.remove(first))
    }

    /// Strikes that have found their calls.
    pub fn hits(&self) -> Vec<Hit> {
        self.0.lock().unwrap().hits.clone()
    }

    /// How many calls were made.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap().calls.len()
    }

    /// Takes a call down and tells what strikes it.
    pub fn enter(&self, call: Call) -> Vec<Strike> {
        let mut inner = self.0.lock().unwrap();
        let number = match &mut inner.counted {
            Some((is_counted, _)) if !is_counted(&call) => usize::MAX,
            Some((_, next)) => std::mem::replace(next, *next + 1),
            None => inner.calls.len(),
        };
        inner.calls.push(call.clone());
        if let Some(strike) = inner.take_armed(number, call) {
            return vec![strike];
        }
        let strikes = inner.take(number);
        inner.struck += strikes.len();
        strikes
    }

    pub fn calls(&self) -> Vec<Call> {
        self.0.lock().unwrap().calls.clone()
    }

    /// How many strikes have found their call.
    pub fn struck(&self) -> usize {
        self.0.lock().unwrap().struck
    }

    pub fn count(&self, wanted: impl Fn(&Call) -> bool) -> usize {
        self.0.lock().unwrap().calls.iter().filter(|call| wanted(call)).count()
    }
}
