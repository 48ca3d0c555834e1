//! The passes that are struck, and the world before each.

use std::sync::atomic::Ordering;
use std::time::Duration;

use cloud_simulator::Operation;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::support::api_server::ROTATIONS;
use crate::support::prober::INFERENCE_HOST;
use crate::support::script::Call;
use crate::support::stage::{CREDENTIALS, NAME, NAMESPACE};
use crate::support::workloads::target;
use crate::support::{Stage, World};

/// What is restarted where codes are distributed.
pub const WORKLOADS: [(&str, &str); 2] = [("Deployment", "web"), ("StatefulSet", "db")];
/// The pass that is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A rotation asked for by `rotationTrigger`.
    Trigger,
    /// The same while the resource has a schedule.
    Scheduled,
    /// First sight: the only code is taken over.
    Adopt,
    /// First sight: an inline seed is rotated at once.
    First,
    /// First sight of an app without codes.
    Add,
    /// As `Trigger` with `Overlap`; the old code is retired at once.
    AtOnce,
    /// The same with a grace period that ends within the run.
    Grace,
    /// As `Trigger`, and the new code is tried and two workloads are restarted with it.
    RollOut,
    /// As `Grace` with the tries and the restarts of `RollOut`.
    Handover,
    /// The resource was deleted in the grace period, which ends soon.
    Farewell,
}

impl Scenario {
    /// A code is replaced or made, and nothing more is done for it.
    pub const ALL: [Self; 5] = [Self::Trigger, Self::Scheduled, Self::Adopt, Self::First, Self::Add];
    /// A new code is brought to its consumers, or the one before is retired.
    pub const BEYOND: [Self; 4] = [Self::AtOnce, Self::Grace, Self::RollOut, Self::Handover];

    /// Every one.
    pub const EVERY: [Self; 10] = [
        Self::Trigger,
        Self::Scheduled,
        Self::Adopt,
        Self::First,
        Self::Add,
        Self::AtOnce,
        Self::Grace,
        Self::RollOut,
        Self::Handover,
        Self::Farewell,
    ];

    /// Whether each of its calls is struck by everything in each run of the tests: a code replaced in place, one put beside
    /// the one before, and one that is brought to its consumers first. The others differ from these at single calls.
    pub fn is_typical(self) -> bool {
        matches!(self, Self::Trigger | Self::AtOnce | Self::Handover)
    }

    /// Resets and additions that it makes, or has made already.
    pub fn changes(self) -> usize {
        usize::from(self != Self::Adopt)
    }

    /// Whether a code is put beside the one before, which is deleted later.
    pub fn is_beside(self) -> bool {
        matches!(self, Self::AtOnce | Self::Grace | Self::Handover | Self::Farewell)
    }

    /// Whether the new code is tried and workloads are restarted with it.
    pub fn is_distributed(self) -> bool {
        matches!(self, Self::RollOut | Self::Handover)
    }

    /// The first of its calls that another scenario does not make in the same way.
    pub fn news(self, calls: &[Call]) -> usize {
        let is_change = |call: &Call| matches!(call, Call::Cloud(Operation::Reset | Operation::Add));
        let change = calls.iter().position(is_change).unwrap_or_default();
        match self {
            // Up to the write of the code they are as `Trigger` or `AtOnce`.
            Self::Grace | Self::RollOut | Self::Handover => change + 2,
            _ => 0,
        }
    }

    fn grace(self) -> Option<&'static str> {
        match self {
            Self::AtOnce => Some("0s"),
            Self::Grace | Self::Handover => Some("10m"),
            Self::Farewell => Some("1m"),
            _ => None,
        }
    }

    fn spec(self, spec: &mut Value) {
        if self == Self::Scheduled {
            spec["schedule"] = json!({ "interval": "48h" });
        }
        if let Some(grace) = self.grace() {
            spec["strategy"] = json!("Overlap");
            spec["overlap"] = json!({ "gracePeriod": grace });
        }
        if self.is_distributed() {
            spec["restartTargets"] = WORKLOADS
                .map(|(kind, name)| json!({ "kind": kind, "name": name }))
                .into();
            spec["verification"] = json!({ "url": format!("https://{INFERENCE_HOST}/v1/infers/any-service") });
        }
    }

    pub fn codes(self) -> usize {
        usize::from(self != Self::Add)
    }

    pub async fn prepare(self, transport: Transport, deadline: Duration) -> World {
        let stage = match transport {
            Transport::Http | Transport::Password => Stage::over_http(self.codes()).await,
            Transport::Direct => Stage::direct(self.codes()),
        };
        if transport == Transport::Password {
            let user = &stage.user;
            stage.delete_secret(CREDENTIALS);
            let data = [
                ("domainName", user.account_name.as_str()),
                ("userName", &user.name),
                ("password", &user.password),
            ];
            stage.create_secret(CREDENTIALS, &data);
        }
        let mut world = World::with_deadline(stage, deadline);
        if self.is_distributed() {
            world.stage.is_rolling.store(true, Ordering::Relaxed);
            for (kind, name) in WORKLOADS {
                world.stage.create_workload(&target(&format!("{kind}/{name}")));
            }
        }
        match self {
            Self::Trigger
            | Self::Scheduled
            | Self::AtOnce
            | Self::Grace
            | Self::RollOut
            | Self::Handover
            | Self::Farewell => {
                world.stage.create_rotation(|spec| self.spec(spec));
                world.run_to_rest().await;
                world.assert_ready();
                world.stage.set_trigger("one");
                if self == Self::Farewell {
                    world.run_for(SignedDuration::from_secs(20)).await;
                    assert_eq!(world.live().len(), 2);
                    world.stage.api.delete(ROTATIONS, NAMESPACE, NAME);
                }
            }
            Self::Adopt | Self::Add => {
                world.stage.create_rotation(|_| ());
            }
            Self::First => {
                let seed = world.live().remove(0);
                world.stage.create_rotation(|spec| spec["appCode"] = json!(seed));
            }
        }
        world
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Http,
    /// The same, signed in by password.
    Password,
    Direct,
}
