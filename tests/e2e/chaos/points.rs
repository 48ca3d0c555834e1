//! Every point at which the program is killed, and in which way, each seen from outside: in the requests that the gate
//! sees, or in the cloud's ledger.

use cloud_simulator::Operation;
use http::Method;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::Value;

use super::gate::Seen;
use super::members::{Member, NAMESPACE, Strategy};
use super::traffic::INTENT;

/// What brings the operator to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A rotation is asked for.
    Rotate(Strategy),
    /// The same of a resource whose status shows the code itself, which a `Reset` replaces.
    RotateShown,
    /// A new resource is made, which takes the code over that its app has.
    Begin,
    /// The same of one whose status shows the code itself.
    BeginShown,
    /// A new resource is made, which begins with a `Reset`.
    BeginByRotation,
    /// A new resource is made, which takes over a Secret that somebody else made.
    Adopt,
    /// A resource with `Overlap` is deleted while the code before is still to be retired.
    Leave,
}

/// A write on the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// The finalizer onto the resource.
    Hold,
    /// The Secret of a new resource.
    Create,
    /// The intent on the Secret.
    Intent,
    /// The status that tells of a rotation before its call.
    Mirror,
    /// The code that the app has already into the Secret.
    TakeOver,
    /// The new code into the Secret.
    Code,
    /// The mark of a restart on a workload.
    Restart,
    /// The status that first tells of a code that was taken over.
    Told,
    /// The status that tells of the new code.
    Status,
    /// The mark of a deletion on the Secret.
    Retiring,
    /// The end of the code before, on the Secret.
    Retired,
    /// The finalizer off the resource.
    Release,
    /// The status that tells of that end.
    End,
}

/// A request of the operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// To the API server.
    Write(Write),
    /// To the cloud: the call that makes the new code.
    Make,
    /// To the cloud: the call that deletes the code before.
    Delete,
}

/// What becomes of a request whose sender is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It never arrives.
    Lost,
    /// It arrives while the next operator is at work.
    Soon,
    /// It arrives after the next operator has rotated the code once more, or is done with the resource.
    Late,
    /// It was done before, and only the answer is lost.
    Landed,
}

const WAYS: [Way; 4] = [Way::Lost, Way::Soon, Way::Late, Way::Landed];

/// The steps of each deed at which its resource is struck, in the order in which they come. Those that a new resource shares
/// with an old one stand there once.
const STEPS: [(Deed, &[Step]); 8] = [
    (
        Deed::Rotate(Strategy::Reset),
        &[
            Step::Write(Write::Intent),
            Step::Make,
            Step::Write(Write::Code),
            Step::Write(Write::Status),
        ],
    ),
    (
        Deed::Rotate(Strategy::Overlap),
        &[
            Step::Write(Write::Hold),
            Step::Write(Write::Intent),
            Step::Write(Write::Mirror),
            Step::Make,
            Step::Write(Write::Code),
            Step::Write(Write::Restart),
            Step::Write(Write::Status),
            Step::Write(Write::Retiring),
            Step::Delete,
            Step::Write(Write::Retired),
            Step::Write(Write::Release),
            Step::Write(Write::End),
        ],
    ),
    (Deed::RotateShown, &[Step::Write(Write::Status)]),
    (
        Deed::Begin,
        &[
            Step::Write(Write::Create),
            Step::Write(Write::TakeOver),
            Step::Write(Write::Told),
        ],
    ),
    (Deed::BeginShown, &[Step::Write(Write::Told)]),
    (Deed::BeginByRotation, &[Step::Write(Write::Create)]),
    (Deed::Adopt, &[Step::Write(Write::TakeOver), Step::Write(Write::Told)]),
    (Deed::Leave, &[Step::Delete, Step::Write(Write::Release)]),
];

/// A point and what becomes of the request that is under way there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strike {
    /// What brings the operator there.
    pub deed: Deed,
    /// Its request.
    pub step: Step,
    /// What becomes of that.
    pub way: Way,
}

/// Those of a short run. The first is the worst of all: the code is in the cloud and in memory only, and the write that
/// would have saved it comes after the next one.
pub const FIRST: [Strike; 10] = [
    strike(Deed::Rotate(Strategy::Reset), Step::Write(Write::Code), Way::Late),
    strike(Deed::Begin, Step::Write(Write::Create), Way::Late),
    strike(Deed::Rotate(Strategy::Overlap), Step::Make, Way::Landed),
    strike(Deed::Adopt, Step::Write(Write::TakeOver), Way::Lost),
    strike(Deed::Rotate(Strategy::Overlap), Step::Write(Write::Hold), Way::Late),
    strike(Deed::RotateShown, Step::Write(Write::Status), Way::Soon),
    strike(Deed::Leave, Step::Write(Write::Release), Way::Lost),
    strike(Deed::Rotate(Strategy::Overlap), Step::Delete, Way::Soon),
    strike(Deed::BeginByRotation, Step::Write(Write::Create), Way::Landed),
    strike(
        Deed::Rotate(Strategy::Overlap),
        Step::Write(Write::Release),
        Way::Landed,
    ),
];

const fn strike(deed: Deed, step: Step, way: Way) -> Strike {
    Strike { deed, step, way }
}

/// Every strike once: in an order that `seed` chooses, or the few of a short run first.
pub fn strikes(seed: Option<u64>) -> Vec<Strike> {
    let points = STEPS
        .iter()
        .flat_map(|(deed, steps)| steps.iter().map(|step| (*deed, *step)));
    let all = points.flat_map(|(deed, step)| WAYS.map(|way| strike(deed, step, way)));
    let mut all: Vec<Strike> = all.filter(|strike| strike.is_survived()).collect();
    if let Some(seed) = seed {
        all.shuffle(&mut StdRng::seed_from_u64(seed));
    } else {
        let place = |strike: &Strike| FIRST.iter().position(|first| first == strike);
        all.sort_by_key(|strike| place(strike).unwrap_or(FIRST.len()));
    }
    all
}

impl Strike {
    /// An added code is not bound to the one before: where it comes so late that it was given up, there are two new codes,
    /// which is a documented limit.
    fn is_survived(self) -> bool {
        self != strike(Deed::Rotate(Strategy::Overlap), Step::Make, Way::Late)
    }

    /// The same where another operator goes on before anything arrives: late, or never if it must not be late.
    #[must_use]
    pub fn after_another(self) -> Self {
        let way = if self.way == Way::Soon { Way::Late } else { self.way };
        let late = Self { way, ..self };
        if late.is_survived() {
            late
        } else {
            Self { way: Way::Lost, ..self }
        }
    }
}

impl Step {
    /// The call on the cloud for a member that is rotated so; none for a write.
    pub fn operation(self, strategy: Strategy) -> Option<Operation> {
        match self {
            Self::Write(_) => None,
            Self::Make => Some(strategy.operation()),
            Self::Delete => Some(Operation::Delete),
        }
    }
}

impl Write {
    /// Whether a request is this write, for a rotation that was asked for by the request of this number.
    pub fn of(self, target: &Member, request: usize) -> impl Fn(&Seen<'_>) -> bool + Send + 'static {
        let name = target.name.clone();
        let secrets = format!("/api/v1/namespaces/{NAMESPACE}/secrets");
        let secret = format!("{secrets}/{name}");
        let resource = format!("/apis/appcode.dev/v1alpha1/namespaces/{NAMESPACE}/appcoderotations/{name}");
        let workload = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}");
        let request = request.to_string();
        move |seen| {
            let body: Value = serde_json::from_slice(seen.body).unwrap_or_default();
            let is = |method, path: &str| *seen.method == method && seen.path == path;
            let (meta, status) = (&body["metadata"], &body["status"]);
            let is_patch = is(Method::PATCH, &secret);
            let is_put = is(Method::PUT, &format!("{resource}/status"));
            let is_told = is_put && status["lastHandledRequest"] == *request;
            let intent = intent_of(&meta["annotations"]);
            let comes_to = |step: &str| is_patch && intent["consumed"]["request"] == *request && intent["step"] == step;
            let finalizers = || meta["finalizers"].as_array().filter(|_| is(Method::PATCH, &resource));
            match self {
                Self::Hold => finalizers().is_some_and(|all| !all.is_empty()),
                Self::Create => is(Method::POST, &secrets) && meta["name"] == *name,
                Self::Intent => comes_to("Started"),
                Self::Mirror => is_put && !is_told && status["rotation"]["step"] == "Started",
                Self::TakeOver => is_patch && body.get("data").is_some() && intent.is_null(),
                Self::Code => comes_to("Persisted") && body.get("data").is_some(),
                Self::Restart => is(Method::PATCH, &workload),
                Self::Told => is_put && !status["current"].is_null(),
                Self::Status => is_told,
                Self::Retiring => comes_to("Retiring"),
                Self::Retired => comes_to("Retired"),
                Self::Release => finalizers().is_some_and(Vec::is_empty),
                Self::End => is_told && status["rotation"].is_null(),
            }
        }
    }
}

/// The intent in a record; null if there is none.
fn intent_of(record: &Value) -> Value {
    let text = record[INTENT].as_str().unwrap_or_default();
    serde_json::from_str(text).unwrap_or_default()
}
