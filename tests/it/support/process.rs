//! A process of the operator on a stage: the real controller, its queue filled from the API server by hand.

use std::sync::Arc;
use std::time::Duration;

use appcode_operator::clock::SystemClock;
use appcode_operator::controller::{Cluster, Context, Decide, Notice, Settings};
use appcode_operator::endpoint::{Endpoint, EndpointRules};
use appcode_operator::identity::Identity;
use appcode_operator::metrics::Metrics;
use appcode_operator::modelarts::{
    AppCodes, GuardOptions, GuardedAppCodes, HttpAppCodes, HttpOptions, MeasuredAppCodes,
};
use appcode_operator::plan::Limits;
use appcode_operator::validate::Rules;
use appcode_operator::verification::{VerificationHost, VerificationHosts};
use jiff::SignedDuration;
use serde::Deserialize as _;
use serde_json::Value;

use super::Stage;
use super::api_server::{Change, ROTATIONS, SECRETS};
use super::clock::ProcessClock;
use super::cloud::{CloudHandle, DirectAppCodes, Struck};
use super::gate::ProcessId;
use super::prober::{Gateway, INFERENCE_HOST};
use super::sight::Seen;

/// What stands between the operator and the cloud where a bug is planted.
pub type WrapCloud = fn(Arc<dyn AppCodes>) -> Arc<dyn AppCodes>;

/// How processes are started.
#[derive(Clone)]
pub struct Make {
    pub settings: Settings,
    /// No call on the API server takes longer; that matters only where one hangs.
    pub deadline: Duration,
    /// How the client connects.
    pub http: HttpOptions,
    /// What is called in place of the stage's cloud.
    pub instead: Option<Arc<dyn AppCodes>>,
    pub wrap: Option<WrapCloud>,
    /// What decides in the place of the operator's own function, for a process of this number.
    pub decide: Option<fn(ProcessId) -> Arc<Decide>>,
}

impl Make {
    pub fn new(stage: &Stage, deadline: Duration) -> Self {
        Self {
            settings: settings(stage),
            deadline,
            http: HttpOptions {
                allow_insecure_loopback: true,
                ..HttpOptions::default()
            },
            instead: None,
            wrap: None,
            decide: None,
        }
    }

    /// Starts a process that has watched from the beginning.
    pub fn start(&self, stage: &Arc<Stage>, number: ProcessId) -> Process {
        Process {
            number,
            ctx: self.context(stage, number),
            seen: 0,
            seen_secrets: 0,
            sight: stage.sight.now(),
            round: 1,
        }
    }

    /// Starts a process whose queue is filled by a listing, as after every start.
    pub fn start_late(&self, stage: &Arc<Stage>, number: ProcessId) -> Process {
        let mut process = self.start(stage, number);
        process.seen_secrets = stage.api.version();
        process.list(stage, true);
        process
    }

    /// A process on the machine's clock, for what runs by itself.
    pub fn on_the_machine(&self, stage: &Arc<Stage>, cloud: Arc<dyn AppCodes>) -> Arc<Context> {
        Arc::new(Context::new(
            Cluster::new(stage.client(), self.deadline),
            cloud,
            Arc::new(Gateway::of(stage)),
            Arc::new(SystemClock::start()),
            self.settings.clone(),
            Arc::default(),
            Some(1),
        ))
    }

    /// The random numbers of a process follow from its number.
    fn context(&self, stage: &Arc<Stage>, number: ProcessId) -> Arc<Context> {
        let clock = Arc::new(ProcessClock::start(stage.time.clone(), stage.gate.clone(), number));
        let metrics = Arc::new(Metrics::default());
        let inner: Arc<dyn AppCodes> = match (&self.instead, &stage.cloud) {
            (Some(cloud), _) => Arc::clone(cloud),
            (None, CloudHandle::Http(_)) => {
                Arc::new(HttpAppCodes::new(&self.http, clock.clone(), Arc::clone(&metrics)).unwrap())
            }
            (None, CloudHandle::Direct(..)) => Arc::new(DirectAppCodes {
                stage: Arc::clone(stage),
            }),
        };
        let struck: Arc<dyn AppCodes> = Arc::new(Struck {
            inner,
            stage: Arc::clone(stage),
            process: number,
        });
        let struck = self.wrap.map_or(Arc::clone(&struck), |wrap| wrap(struck));
        let measured = MeasuredAppCodes::new(struck, clock.clone(), Arc::clone(&metrics));
        let cloud = GuardedAppCodes::new(
            Arc::new(measured),
            clock.clone(),
            GuardOptions::default(),
            Arc::clone(&metrics),
        );
        let cluster = Cluster::new(stage.client_of(number), self.deadline);
        let settings = self.settings.clone();
        let mut ctx = Context::new(
            cluster,
            Arc::new(cloud),
            Arc::new(Gateway::of(stage).for_process(number)),
            clock,
            settings,
            metrics,
            Some(number),
        );
        if let Some(decide) = self.decide {
            ctx.decide = decide(number);
        }
        let ctx = Arc::new(ctx);
        stage.started(number, &ctx);
        ctx
    }
}

/// What was told last, where it is told again.
const REPEATED: usize = 4;

pub struct Process {
    pub number: ProcessId,
    pub ctx: Arc<Context>,
    seen: u64,
    seen_secrets: u64,
    sight: Seen,
    round: u32,
}

impl Process {
    /// Brings the watch up to date, as far as it tells anything.
    pub fn sync(&mut self, stage: &Stage) {
        let sight = stage.sight.now();
        if sight.is_dark(stage.time.truth()) {
            return;
        }
        let before = std::mem::replace(&mut self.sight, sight);
        if before.listings != sight.listings {
            self.list(stage, false);
        }
        if before.repeats != sight.repeats {
            let mut old = stage.api.changes_since(0);
            old.retain(|change| change.version <= self.seen);
            for change in old.iter().skip(old.len().saturating_sub(REPEATED)) {
                self.take_in(change);
            }
        }
        for change in stage.api.changes_since(self.seen) {
            self.seen = change.version;
            self.take_in(&change);
        }
        let since = std::mem::replace(&mut self.seen_secrets, stage.api.version());
        if let Some(lookout) = &self.ctx.lookout {
            for change in stage.api.changes_of(SECRETS, since) {
                let text = |field: &str| change.object["metadata"][field].as_str().unwrap_or_default().to_owned();
                let version = (change.kind != "DELETED").then(|| text("resourceVersion"));
                lookout.changed(&text("namespace"), &text("name"), version.as_deref());
            }
        }
    }

    fn take_in(&self, change: &Change) {
        let notice = notice(&change.object);
        if change.kind == "DELETED" {
            self.ctx.deleted(&notice.key());
        } else {
            self.ctx.apply(&notice, false, self.round);
        }
    }

    /// Lists all that there is, as at the start or after the watch was away for too long.
    fn list(&mut self, stage: &Stage, is_first: bool) {
        self.round += 1;
        self.seen = stage.api.version();
        for object in stage.api.objects(ROTATIONS) {
            self.ctx.apply(&notice(&object), is_first, self.round);
        }
        for key in self.ctx.queue.unseen(self.round, |_| true) {
            self.ctx.deleted(&key);
        }
    }

    /// Gives turns to those whose Secret others have changed; how long there is nothing to do for that.
    pub fn wake(&self) -> Duration {
        let lookout = self.ctx.lookout.as_ref();
        lookout.map_or(Duration::MAX, |lookout| lookout.wake(&self.ctx.queue).1)
    }
}

pub fn notice(object: &Value) -> Notice {
    Notice::deserialize(object).unwrap()
}

fn settings(stage: &Stage) -> Settings {
    let minimum_interval = SignedDuration::from_mins(10);
    let endpoint = Endpoint {
        modelarts: stage.endpoint.clone(),
        iam: stage.endpoint.clone(),
    };
    Settings {
        identity: Identity::None,
        limits: Limits {
            settle_window: SignedDuration::from_mins(2),
            minimum_interval,
            daily_budget: 1000,
            check_period: SignedDuration::from_hours(1),
        },
        rules: Rules {
            endpoints: EndpointRules {
                allowed: vec![endpoint],
                allow_insecure_loopback: true,
            },
            verification_hosts: VerificationHosts {
                allowed: vec![VerificationHost::parse(INFERENCE_HOST).unwrap()],
                allow_insecure_loopback: true,
            },
            minimum_interval,
            daily_budget: 1000,
            forbid_plaintext: false,
            allowances: Vec::new(),
        },
        namespaces: Vec::new(),
        concurrency: 4,
        grace: Duration::from_secs(20),
        prompt: Duration::from_secs(5),
        watch_request: Duration::from_secs(240),
        watch_secrets: false,
        resource_metrics: 1000,
        instance: "operator-0".into(),
    }
}
