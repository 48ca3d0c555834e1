//! An operator is brought to a point of its work, and is killed or stopped there.

use std::path::PathBuf;
use std::time::Duration;

use appcode_operator::api::ROTATE_REQUESTED_AT;
use cloud_simulator::{Answered, Fault, FaultId, LostAnswer};
use rand::RngExt;

use super::fleet::Fleet;
use super::gate::{Gate, Hold, When};
use super::members::{Kind, Member, NAMESPACE, SHOWN, Strategy, TARGETS};
use super::points::{Deed, Step, Strike, Way};
use crate::stage::Operator;

/// The next operator has begun its work by then, or has not.
const SOON: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(100);

/// What holds a request at a point.
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

    /// Lets the operator come to a point, kills it there, and starts it again.
    pub async fn kill_at(&mut self, strike: Strike, replica: &mut Replica) {
        let (target, trap) = self.spring(strike, replica).await;
        replica.kill();
        replica.start(self);
        match strike.way {
            Way::Lost | Way::Landed => {}
            Way::Soon => self.pause(SOON).await,
            Way::Late => self.go_on(strike.deed, &target).await,
        }
        self.end(trap, strike.way != Way::Lost);
        self.pause(SOON).await;
    }

    /// Lets the first operator come to a point and stops it there. The other one goes on, and further than that. Then what
    /// was on its way arrives or is lost, and the first one goes on from where it was.
    pub async fn hand_over_at(&mut self, strike: Strike, first: &Replica, other: &Replica) {
        let strike = strike.after_another();
        other.signal("STOP");
        let (target, trap) = self.spring(strike, first).await;
        first.signal("STOP");
        other.signal("CONT");
        self.go_on(strike.deed, &target).await;
        let arrives = match strike.way {
            Way::Lost => false,
            Way::Soon | Way::Late => true,
            Way::Landed => self.random.random(),
        };
        self.end(trap, arrives);
        first.signal("CONT");
        self.pause(SOON).await;
    }

    /// Does the deed and waits until the request of the point is held.
    async fn spring(&mut self, strike: Strike, replica: &Replica) -> (Member, Trap) {
        let target = self.prepare(strike.deed).await;
        let mut trap = self.set_trap(strike, &target, &replica.gate);
        self.act(strike.deed, &target).await;
        match &mut trap {
            Trap::Gate(hold) => self.within(&format!("{strike:?}"), hold.caught()).await,
            Trap::Cloud(fault) => self.until_struck(*fault).await,
        }
        (target, trap)
    }

    /// Brings about all that has to be so before the deed. Returns what it is done to.
    async fn prepare(&mut self, deed: Deed) -> Member {
        match deed {
            Deed::Rotate(strategy) => {
                let number = self.random.random_range(0..TARGETS);
                self.idle(strategy, number).await
            }
            Deed::RotateShown => self.idle(Strategy::Reset, SHOWN).await,
            Deed::Begin | Deed::BeginByRotation => self.newcomer(Kind::Plain),
            Deed::BeginShown => self.newcomer(Kind::Shown),
            Deed::Adopt => self.newcomer(Kind::Adopting),
            Deed::Leave => {
                let target = self.newcomer(Kind::Leaving);
                self.stage.apply(&target.resource);
                self.handled(&target.name).await;
                self.ask(&target).await;
                let is_persisted = async {
                    while self.kept(&target.name).await.handled == 0 {
                        tokio::time::sleep(PAUSE).await;
                    }
                };
                self.within("the code to be retired is replaced", is_persisted).await;
                target
            }
        }
    }

    /// One of those that are rotated for one purpose at a time, once its last rotation is over.
    async fn idle(&self, strategy: Strategy, number: usize) -> Member {
        let target = self.target(strategy, number);
        self.handled(&target.name).await;
        target
    }

    async fn act(&self, deed: Deed, target: &Member) {
        match deed {
            Deed::Rotate(_) | Deed::RotateShown => self.ask(target).await,
            Deed::BeginByRotation => {
                // One rotation for both reasons.
                self.asker.count(&target.name, 1);
                let mut resource = target.resource.clone();
                resource["spec"]["initialRotation"] = "Immediate".into();
                resource["metadata"]["annotations"][ROTATE_REQUESTED_AT] = "1".into();
                self.stage.apply(&resource);
            }
            Deed::Begin | Deed::BeginShown | Deed::Adopt => self.stage.apply(&target.resource),
            Deed::Leave => {
                let args = ["delete", "acr", &target.name, "-n", NAMESPACE, "--wait=false"];
                self.stage.kubectl(&args);
            }
        }
    }

    /// Waits until the operator has rotated the code once more, or is done with the resource.
    async fn go_on(&self, deed: Deed, target: &Member) {
        if deed == Deed::Leave {
            let gone = async {
                while self.asker.is_there(&target.name).await {
                    tokio::time::sleep(PAUSE).await;
                }
            };
            self.within(&format!("{} is gone", target.name), gone).await;
        } else {
            self.handled(&target.name).await;
            self.ask(target).await;
            self.handled(&target.name).await;
        }
    }

    async fn ask(&self, target: &Member) {
        let asked = self.asker.asked(&target.name);
        let is_asked = self.asker.ask_after(&target.name, asked).await;
        assert!(is_asked, "the server is there");
    }

    /// Waits until the last request for `name` is handled and nothing of it is left to do.
    async fn handled(&self, name: &str) {
        let handled = async {
            loop {
                let kept = self.kept(name).await;
                let is_handled = kept.handled == self.asker.asked(name) && kept.code.is_some() && kept.is_over;
                if is_handled && !self.asker.is_held(name).await {
                    return;
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        self.within(&format!("the last request of {name} is handled"), handled)
            .await;
    }

    fn set_trap(&self, strike: Strike, target: &Member, gate: &Gate) -> Trap {
        let is_done = strike.way == Way::Landed;
        if let Step::Write(write) = strike.step {
            let when = if is_done { When::After } else { When::Before };
            let request = self.asker.asked(&target.name) + 1;
            return Trap::Gate(gate.hold(when, write.of(target, request)));
        }
        let fault = if is_done {
            Fault::hold()
        } else {
            Fault::late(None, LostAnswer::Hang)
        };
        let operation = strike.step.operation(target.strategy).expect("a call");
        let fault = fault.at(operation).app(&target.app).once();
        Trap::Cloud(self.stage.cloud.inject(fault))
    }

    /// Waits until a call has come to the fault. The client waits too: for the work to be done, or for the answer.
    async fn until_struck(&self, fault: FaultId) {
        let struck = async {
            let waits = || self.stage.cloud.struck_by(fault).into_iter();
            while !waits().any(|entry| entry.answered == Answered::Held) {
                tokio::time::sleep(PAUSE).await;
            }
        };
        self.within("a call comes to the fault", struck).await;
    }

    /// What was held arrives, or is lost.
    fn end(&self, trap: Trap, arrives: bool) {
        match trap {
            Trap::Gate(hold) if arrives => hold.let_go(),
            Trap::Cloud(fault) if arrives => {
                self.stage.cloud.release(fault);
            }
            Trap::Gate(_) | Trap::Cloud(_) => {}
        }
    }
}
