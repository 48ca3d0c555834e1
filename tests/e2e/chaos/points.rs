//! Points of a rotation at which the program is killed, each seen from outside: in the requests that the gate sees, or
//! in the cloud's ledger.

use std::path::Path;
use std::time::Duration;

use cloud_simulator::{Answered, Fault, FaultId, LostAnswer, Operation, RequestEntry};
use http::Method;
use rand::RngExt;
use serde_json::Value;

use super::fleet::{Fleet, Member, NAMESPACE};
use super::gate::{Gate, Hold, Seen, When};
use super::traffic::HANDLED;

/// A write of a rotation, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// The intent on the Secret.
    Intent,
    /// The code into the Secret.
    Code,
    /// The status that tells of it.
    Status,
}

/// A point of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A write was sent and the server has not got it.
    Sent(Write),
    /// A write is done and its answer is on its way.
    Written(Write),
    /// The reset was sent and nothing is done.
    ResetSent,
    /// The reset is done and its answer is on its way.
    ResetDone,
}

/// All of them, in the order of a rotation.
pub const POINTS: [Point; 8] = [
    Point::Sent(Write::Intent),
    Point::Written(Write::Intent),
    Point::ResetSent,
    Point::ResetDone,
    Point::Sent(Write::Code),
    Point::Written(Write::Code),
    Point::Sent(Write::Status),
    Point::Written(Write::Status),
];

/// What holds a rotation at a point.
enum Trap {
    Gate(Hold),
    Cloud(FaultId),
}

impl Fleet {
    /// Lets a rotation of `target` come to `point` and kills the operator there. What was on its way is lost then, or
    /// arrives late, while the next operator is at work.
    pub async fn kill_at(&mut self, point: Point, target: &Member, gate: &Gate, kubeconfig: &Path) {
        let operator = self.stage.run_operator(kubeconfig);
        let handled = self.handled(&target.name).await;
        let mut trap = self.set_trap(point, target, gate, handled + 1);
        assert!(self.asker.ask_after(&target.name, handled).await, "the server is there");
        match &mut trap {
            Trap::Gate(hold) => self.within(&format!("{point:?}"), hold.caught()).await,
            Trap::Cloud(fault) => self.until_struck(*fault).await,
        }
        operator.signal("KILL");
        assert_eq!(operator.wait(), None);
        if self.random.random() {
            let _next = self.stage.run_operator(kubeconfig);
            self.pause(Duration::from_secs(2)).await;
            match trap {
                Trap::Gate(hold) => hold.let_go(),
                Trap::Cloud(fault) => drop(self.stage.cloud.release(fault)),
            }
            self.pause(Duration::from_secs(2)).await;
        }
    }

    /// The number of the last request for `name`, once it is handled.
    async fn handled(&self, name: &str) -> usize {
        let handled = async {
            loop {
                let kept = self.asker.kept().await;
                match kept.get(name) {
                    Some(kept) if kept.handled == self.asker.asked(name) => return kept.handled,
                    _ => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        };
        self.within(&format!("the last request of {name} is handled"), handled)
            .await
    }

    fn set_trap(&self, point: Point, target: &Member, gate: &Gate, request: usize) -> Trap {
        let fault = match point {
            Point::Sent(write) => return Trap::Gate(gate.hold(When::Before, write.of(target, request))),
            Point::Written(write) => return Trap::Gate(gate.hold(When::After, write.of(target, request))),
            Point::ResetSent => Fault::late(None, LostAnswer::Hang),
            Point::ResetDone => Fault::hold(),
        };
        Trap::Cloud(
            self.stage
                .cloud
                .inject(fault.at(Operation::Reset).app(&target.app).once()),
        )
    }

    /// Waits until a call has come to the fault: it waits for its work, or its answer is held.
    pub async fn until_struck(&self, fault: FaultId) {
        let waits = |entry: &RequestEntry| {
            entry.faults.contains(&fault) && matches!(entry.answered, Answered::Pending | Answered::Held)
        };
        let struck = self.stage.cloud.until(|ledger| ledger.of(Operation::Reset).any(waits));
        self.within("a reset comes to the fault", struck).await;
    }
}

impl Write {
    /// Whether a request is this write, for a rotation that was asked for by this request.
    fn of(self, target: &Member, request: usize) -> impl Fn(&Seen<'_>) -> bool + Send + 'static {
        let secret = format!("/api/v1/namespaces/{NAMESPACE}/secrets/{}", target.name);
        let kind = "apis/appcode.dev/v1alpha1";
        let status = format!("/{kind}/namespaces/{NAMESPACE}/appcoderotations/{}/status", target.name);
        let request = request.to_string();
        move |seen| {
            let body: Value = serde_json::from_slice(seen.body).unwrap_or_default();
            let record = &body["metadata"]["annotations"];
            let is_patch = *seen.method == Method::PATCH && seen.path == secret;
            match self {
                Self::Intent => is_patch && asked_for(record).as_ref() == Some(&request) && body.get("data").is_none(),
                Self::Code => is_patch && record[HANDLED] == *request && body.get("data").is_some(),
                Self::Status => {
                    let is_put = *seen.method == Method::PUT && seen.path == status;
                    is_put && body["status"]["lastHandledRequest"] == *request
                }
            }
        }
    }
}

/// The request that the intent in a record is for.
fn asked_for(record: &Value) -> Option<String> {
    let intent: Value = serde_json::from_str(record["appcode.dev/intent"].as_str()?).ok()?;
    intent["consumed"]["request"].as_str().map(str::to_owned)
}
