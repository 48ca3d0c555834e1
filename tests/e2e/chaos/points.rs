//! Points of a rotation at which the program is killed, each seen from outside: in the requests that the gate sees, or
//! in the cloud's ledger.

use std::path::PathBuf;
use std::time::Duration;

use cloud_simulator::{Answered, Fault, FaultId, LostAnswer, Operation, RequestEntry};
use http::Method;
use rand::RngExt;
use serde_json::Value;

use super::fleet::{Fleet, Member, NAMESPACE, Strategy};
use super::gate::{Gate, Hold, Seen, When};
use super::traffic::INTENT;
use crate::stage::Operator;

/// The next operator has begun its work by then, or has not.
const SOON: Duration = Duration::from_secs(2);

/// A write of a rotation, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// The intent on the Secret.
    Intent,
    /// The code into the Secret.
    Code,
    /// The mark of a restart on a workload.
    Restart,
    /// The status that tells of the new code.
    Status,
    /// The mark of a deletion on the Secret.
    Retiring,
    /// The end of the code before, on the Secret.
    Retired,
    /// The status that tells of that end.
    End,
}

/// A point of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A write was sent and the server has not got it.
    Sent(Write),
    /// A write is done and its answer is on its way.
    Written(Write),
    /// The call that makes a code was sent and nothing is done.
    CallSent,
    /// That call is done and its answer is on its way.
    CallDone,
    /// The call that deletes the code before was sent and nothing is done.
    DeleteSent,
    /// That call is done and its answer is on its way.
    DeleteDone,
}

/// All of them, by the strategy of the rotation. A short run comes as far as [`FEW_POINTS`].
pub const POINTS: [(Strategy, Point); 20] = [
    (Strategy::Reset, Point::Written(Write::Intent)),
    (Strategy::Reset, Point::Sent(Write::Code)),
    (Strategy::Overlap, Point::CallDone),
    (Strategy::Overlap, Point::Sent(Write::Restart)),
    (Strategy::Overlap, Point::Written(Write::Retiring)),
    (Strategy::Reset, Point::CallDone),
    (Strategy::Overlap, Point::DeleteDone),
    (Strategy::Overlap, Point::Sent(Write::End)),
    (Strategy::Overlap, Point::Sent(Write::Code)),
    (Strategy::Reset, Point::Sent(Write::Status)),
    (Strategy::Overlap, Point::CallSent),
    (Strategy::Reset, Point::Sent(Write::Intent)),
    (Strategy::Overlap, Point::Written(Write::Code)),
    (Strategy::Reset, Point::CallSent),
    (Strategy::Overlap, Point::Written(Write::Restart)),
    (Strategy::Reset, Point::Written(Write::Code)),
    (Strategy::Overlap, Point::DeleteSent),
    (Strategy::Reset, Point::Written(Write::Status)),
    (Strategy::Overlap, Point::Sent(Write::Retired)),
    (Strategy::Overlap, Point::Sent(Write::Status)),
];

/// Points of a short run.
pub const FEW_POINTS: u32 = 8;

/// What becomes of what was on its way when its sender was killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It never arrives.
    Lost,
    /// It arrives while the next operator is at work.
    Soon,
    /// It arrives after the next operator has rotated the code once more.
    Late,
}

/// All of them. They are paired with points in turns; the first round has [`Fate::Late`] at [`CODE_SENT`], the worst of
/// all.
pub const FATES: [Fate; 3] = [Fate::Soon, Fate::Late, Fate::Lost];

/// The place in [`POINTS`] of the one where a code is in the cloud and in memory only.
pub const CODE_SENT: usize = 1;

/// What holds a rotation at a point.
enum Trap {
    Gate(Hold),
    Cloud(FaultId),
}

/// An operator with a gate of its own.
pub struct Replica {
    gate: Gate,
    kubeconfig: PathBuf,
    operator: Option<Operator>,
}

impl Replica {
    /// Lets its operator run.
    pub fn start(&mut self, fleet: &Fleet) {
        self.operator = Some(fleet.stage.run_operator(&self.kubeconfig));
    }

    /// Sends its operator a signal.
    pub fn signal(&self, signal: &str) {
        self.operator.as_ref().expect("it runs").signal(signal);
    }

    fn kill(&mut self) {
        self.signal("KILL");
        assert_eq!(self.operator.take().and_then(Operator::wait), None);
    }
}

impl Fleet {
    /// An operator behind a gate, not yet started.
    pub async fn replica(&self, name: &str) -> Replica {
        let gate = Gate::to(self.stage.plane.url(), &self.authority()).await.unwrap();
        let kubeconfig = self.kubeconfig_by(name, &format!("http://{}", gate.address()));
        Replica {
            gate,
            kubeconfig,
            operator: None,
        }
    }

    /// Lets a rotation of `target` come to `point` and kills the operator there.
    pub async fn kill_at(&mut self, point: Point, target: &Member, replica: &mut Replica, fate: Fate) {
        let fate = if may_come_late(point, target) { fate } else { Fate::Soon };
        let trap = self.spring(point, target, replica).await;
        replica.kill();
        replica.start(self);
        match fate {
            Fate::Lost => drop(trap),
            Fate::Soon => {
                self.pause(SOON).await;
                self.let_go(trap);
                self.pause(SOON).await;
            }
            Fate::Late => {
                self.rotate_once_more(target).await;
                self.let_go(trap);
            }
        }
    }

    /// Lets a rotation of `target` come to `point` and stops its operator there. The other one goes on and rotates the
    /// code once more. Then what was on its way is lost or arrives, and the first one goes on from where it was.
    pub async fn hand_over_at(&mut self, point: Point, target: &Member, first: &Replica, other: &Replica) {
        other.signal("STOP");
        let trap = self.spring(point, target, first).await;
        first.signal("STOP");
        other.signal("CONT");
        self.rotate_once_more(target).await;
        if self.random.random() && may_come_late(point, target) {
            self.let_go(trap);
        } else {
            drop(trap);
        }
        first.signal("CONT");
        self.pause(SOON).await;
    }

    /// Asks for a rotation of `target` and waits until it is held at `point`.
    async fn spring(&self, point: Point, target: &Member, replica: &Replica) -> Trap {
        let handled = self.handled(&target.name).await;
        let mut trap = self.set_trap(point, target, &replica.gate, handled + 1);
        let is_asked = self.asker.ask_after(&target.name, handled).await;
        assert!(is_asked, "the server is there");
        match &mut trap {
            Trap::Gate(hold) => self.within(&format!("{point:?}"), hold.caught()).await,
            Trap::Cloud(fault) => self.until_struck(*fault).await,
        }
        trap
    }

    fn let_go(&self, trap: Trap) {
        match trap {
            Trap::Gate(hold) => hold.let_go(),
            Trap::Cloud(fault) => drop(self.stage.cloud.release(fault)),
        }
    }

    async fn rotate_once_more(&self, target: &Member) {
        let handled = self.handled(&target.name).await;
        let is_asked = self.asker.ask_after(&target.name, handled).await;
        assert!(is_asked, "the server is there");
        self.handled(&target.name).await;
    }

    /// The number of the last request for `name`, once it is handled and nothing of it is left to do.
    async fn handled(&self, name: &str) -> usize {
        let handled = async {
            loop {
                let kept = self.asker.kept().await;
                match kept.get(name) {
                    Some(kept) if kept.handled == self.asker.asked(name) && kept.is_over => return kept.handled,
                    _ => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        };
        self.within(&format!("the last request of {name} is handled"), handled)
            .await
    }

    fn set_trap(&self, point: Point, target: &Member, gate: &Gate, request: usize) -> Trap {
        let makes = target.strategy.operation();
        let (fault, operation) = match point {
            Point::Sent(write) => return Trap::Gate(gate.hold(When::Before, write.of(target, request))),
            Point::Written(write) => return Trap::Gate(gate.hold(When::After, write.of(target, request))),
            Point::CallSent => (Fault::late(None, LostAnswer::Hang), makes),
            Point::CallDone => (Fault::hold(), makes),
            Point::DeleteSent => (Fault::late(None, LostAnswer::Hang), Operation::Delete),
            Point::DeleteDone => (Fault::hold(), Operation::Delete),
        };
        let fault = fault.at(operation).app(&target.app).once();
        Trap::Cloud(self.stage.cloud.inject(fault))
    }

    /// Waits until a call has come to the fault. The client waits too: for the work to be done, or for the answer.
    async fn until_struck(&self, fault: FaultId) {
        let waits = |entry: &RequestEntry| entry.faults.contains(&fault) && entry.answered == Answered::Held;
        let struck = self.stage.cloud.until(|ledger| ledger.requests.iter().any(waits));
        self.within("a call comes to the fault", struck).await;
    }
}

/// Whether what was on its way to `point` may arrive after another rotation. An added code is not bound to the one before:
/// where it comes so late that it was given up, there are two new codes, which is a documented limit.
fn may_come_late(point: Point, target: &Member) -> bool {
    point != Point::CallSent || target.strategy == Strategy::Reset
}

impl Write {
    /// Whether a request is this write, for a rotation that was asked for by this request.
    fn of(self, target: &Member, request: usize) -> impl Fn(&Seen<'_>) -> bool + Send + 'static {
        let secret = format!("/api/v1/namespaces/{NAMESPACE}/secrets/{}", target.name);
        let kind = "apis/appcode.dev/v1alpha1";
        let status = format!("/{kind}/namespaces/{NAMESPACE}/appcoderotations/{}/status", target.name);
        let workload = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{}", target.name);
        let request = request.to_string();
        move |seen| {
            let body: Value = serde_json::from_slice(seen.body).unwrap_or_default();
            let record = &body["metadata"]["annotations"];
            let is_patch = *seen.method == Method::PATCH && seen.path == secret;
            let is_put = *seen.method == Method::PUT && seen.path == status;
            let is_told = is_put && body["status"]["lastHandledRequest"] == *request;
            let intent = intent_of(record);
            let comes_to = |step: &str| is_patch && intent["consumed"]["request"] == *request && intent["step"] == step;
            match self {
                Self::Intent => comes_to("Started"),
                Self::Code => comes_to("Persisted") && body.get("data").is_some(),
                Self::Restart => *seen.method == Method::PATCH && seen.path == workload,
                Self::Retiring => comes_to("Retiring"),
                Self::Retired => comes_to("Retired"),
                Self::Status => is_told,
                Self::End => is_told && body["status"]["rotation"].is_null(),
            }
        }
    }
}

/// The intent in a record; null if there is none.
fn intent_of(record: &Value) -> Value {
    let text = record[INTENT].as_str().unwrap_or_default();
    serde_json::from_str(text).unwrap_or_default()
}
