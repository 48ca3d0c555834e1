//! The resources that are rotated, and how each comes to be.

use cloud_simulator::{Cause, Operation};
use serde_json::{Value, json};

use super::fleet::Fleet;
use crate::stage::Stage;

/// Where all resources are.
pub const NAMESPACE: &str = "a";
/// How many codes each app has, and how they are rotated; each code has a resource. Resources of one app are in each
/// other's way. The first [`TARGETS`] of each strategy are rotated for one purpose at a time in some runs.
const APPS: [(usize, Strategy); 8] = [
    (1, Strategy::Reset),
    (1, Strategy::Reset),
    (1, Strategy::Overlap),
    (1, Strategy::Overlap),
    (1, Strategy::Overlap),
    (1, Strategy::Reset),
    (2, Strategy::Reset),
    (2, Strategy::Reset),
];
/// Resources of each strategy that are rotated for one purpose at a time; the others are rotated all the time.
pub const TARGETS: usize = 2;
/// The number of the one of them, with [`Strategy::Reset`], whose status shows the code itself.
pub const SHOWN: usize = 1;
/// Shorter than the pause between two rotations.
const GRACE: &str = "1s";
/// Long enough to delete a resource meanwhile.
const LONG_GRACE: &str = "15s";

/// How a code is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// By one call.
    Reset,
    /// By one that adds a code, and by another one, after a workload is restarted and a grace period is over, that deletes
    /// the code before.
    Overlap,
}

impl Strategy {
    /// The call that makes the new code.
    pub fn operation(self) -> Operation {
        match self {
            Self::Reset => Operation::Reset,
            Self::Overlap => Operation::Add,
        }
    }

    /// What the ledger has for that call.
    pub fn cause(self) -> Cause {
        match self {
            Self::Reset => Cause::Reset,
            Self::Overlap => Cause::Add,
        }
    }
}

/// What is special about a new resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Plain,
    /// Its status shows the code itself.
    Shown,
    /// Its Secret is there already, made by somebody else.
    Adopting,
    /// With `Overlap` and a long grace period, in which it is deleted.
    Leaving,
}

/// A resource and the app that it rotates a code of. Its Secret has its name, and so has its workload, if it has one.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// How it replaces its code.
    pub strategy: Strategy,
    /// The id of its app.
    pub app: String,
    /// The resource as a person makes it.
    pub resource: Value,
}

impl Member {
    /// Whether its status shows the code itself.
    pub fn is_shown(&self) -> bool {
        self.resource["spec"]["statusCode"] == "Plaintext"
    }
}

/// Makes those that are there from the beginning. They reach the cloud at `endpoint`.
pub fn make_members(stage: &Stage, endpoint: &str) -> Vec<Member> {
    let mut members = Vec::new();
    for (number, (codes, strategy)) in APPS.into_iter().enumerate() {
        let app = stage.app(codes);
        for (place, code) in app.codes.iter().enumerate() {
            let name = format!("app-{number}-code-{place}");
            let mut spec = json!({"endpoint": endpoint, "appCode": code, "initialRotation": "WhenDue"});
            if strategy == Strategy::Overlap {
                stage.apply(&workload(&name));
                spec["strategy"] = json!("Overlap");
                // Nobody rolls anything out here.
                spec["overlap"] = json!({"gracePeriod": GRACE, "waitForRollout": false});
                spec["restartTargets"] = json!([{"kind": "Deployment", "name": name}]);
            }
            if number == SHOWN {
                spec["statusCode"] = json!("Plaintext");
            }
            let resource = stage.rotation(NAMESPACE, &name, &app.app_id, &spec);
            stage.apply(&resource);
            let app = app.app_id.clone();
            members.push(Member {
                name,
                strategy,
                app,
                resource,
            });
        }
    }
    members
}

impl Fleet {
    /// One of those that are rotated for one purpose at a time.
    pub fn target(&self, strategy: Strategy, number: usize) -> Member {
        let mut fitting = self.members.iter().filter(|member| member.strategy == strategy);
        fitting.nth(number % TARGETS).unwrap().clone()
    }

    /// A resource with an app of its own, which is not made yet but is waited for from now on.
    pub fn newcomer(&mut self, kind: Kind) -> Member {
        let app = self.stage.app(1).app_id;
        let name = format!("new-{}", self.members.len());
        let mut spec = json!({"endpoint": self.endpoint(), "initialRotation": "WhenDue"});
        let mut strategy = Strategy::Reset;
        match kind {
            Kind::Plain => {}
            Kind::Shown => spec["statusCode"] = json!("Plaintext"),
            Kind::Adopting => {
                spec["target"] = json!({"creationPolicy": "Adopt"});
                let metadata = json!({"name": name, "namespace": NAMESPACE});
                let data = json!({"theirs": "kept"});
                self.stage
                    .apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}));
            }
            Kind::Leaving => {
                strategy = Strategy::Overlap;
                spec["strategy"] = json!("Overlap");
                spec["overlap"] = json!({"gracePeriod": LONG_GRACE});
            }
        }
        let resource = self.stage.rotation(NAMESPACE, &name, &app, &spec);
        let member = Member {
            name,
            strategy,
            app,
            resource,
        };
        self.members.push(member.clone());
        member
    }
}

/// Something to restart.
fn workload(name: &str) -> Value {
    let labels = json!({"app": name});
    let containers = json!([{"name": "shop", "image": "shop"}]);
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    })
}
