//! The runbook, followed word by word: each stop is brought about, its message read as a person reads it, and the commands
//! under its heading are run as they stand on the page.

mod case;
mod cloud;
mod cluster;
mod code;
mod consumer;
mod own;
mod page;
mod seen;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use appcode_operator::api::Reason;
use cloud_simulator::{App, User};
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use tokio::sync::Mutex;
use tokio::task::LocalSet;

use self::case::Case;
use self::own::Own;
use self::page::Block;
use self::seen::Seen;
use crate::FLAGS;
use crate::cloud::Cloud;
use crate::stage::{FIRST_WITH_FOLDERS, Operator, Stage};

/// The budget that a case can use up.
const BUDGET: &str = "--daily-budget=2";
/// The first release whose server lacks nothing that a current kubectl validates by.
const FIRST_WITH_VALIDATION: u32 = 25;

/// What the cases share.
struct Suite {
    // Dropped first, so that it does not outlive what it calls.
    _operator: Operator,
    stage: Stage,
    /// Another region, where the tenant has the same credentials and no app.
    elsewhere: Cloud,
    client: kube::Client,
    seen: Seen,
    blocks: Vec<Block>,
    /// A folder with the kubectl of the control plane.
    tools: PathBuf,
    /// A user of the same account who created nothing.
    colleague: User,
    /// A user of another account.
    stranger: User,
    /// The operator's own credentials, for one case at a time.
    own: Mutex<Own>,
    /// The apps that it may be used for, by the namespace of the case.
    own_apps: BTreeMap<String, App>,
    /// Apps, with the changes that a case left them with; no more must follow.
    ended: RefCell<Vec<(String, usize)>>,
    /// Reasons that were resolved by nothing but what the message told.
    told: RefCell<BTreeSet<Reason>>,
}

impl Suite {
    async fn start() -> Self {
        let own_flags = ["--daily-budget", "--log"];
        let is_other = |flag: &&str| !own_flags.iter().any(|own| flag.starts_with(own));
        let elsewhere = Cloud::start();
        elsewhere.add_tenant("tenant"); // the first draws of the same seed
        let endpoint = format!("--allow-endpoint={0}={0}", elsewhere.url());
        let more = [BUDGET, &endpoint, "--log=debug"]; // so many at once have too much to trace
        let flags: Vec<&str> = FLAGS.iter().copied().filter(is_other).chain(more).collect();
        let stage = Stage::set_with_controllers(Path::new(env!("CARGO_BIN_EXE_appcode-operator")), &flags).await;
        stage.allow_restarts();
        let own = Own::new(stage.plane.dir());
        let own_apps: BTreeMap<String, App> = own::CASES
            .map(|(reason, number)| (case::namespace(reason, number), stage.app(1)))
            .into();
        let operator = stage.run_operator_with(stage.operator_kubeconfig(), &own.flags(&own_apps));
        let kubeconfig = Kubeconfig::read_from(stage.plane.admin_kubeconfig()).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
        let colleague = stage
            .cloud
            .add_user(&stage.user.account_id, "colleague", "Passw0rd!of-the-colleague");
        let (stranger, _) = stage.cloud.add_tenant("stranger");
        stage.cloud.behave(|behaviour| behaviour.show_to_strangers = true);
        let client = kube::Client::try_from(config.unwrap()).unwrap();
        Self {
            seen: Seen::start(client.clone()),
            client,
            blocks: page::blocks(&page::text()),
            tools: tools(&stage),
            colleague,
            stranger,
            own: Mutex::new(own),
            own_apps,
            ended: RefCell::default(),
            told: RefCell::default(),
            _operator: operator,
            stage,
            elsewhere,
        }
    }

    /// The `number`th block before the first reason.
    fn script(&self, number: usize) -> &str {
        let block = self.blocks.iter().filter(|block| block.reason.is_none()).nth(number);
        &block.expect("the page has such a block").script
    }

    /// The blocks under a reason.
    fn scripts(&self, reason: Reason) -> impl Iterator<Item = &Block> {
        let is_its = move |block: &&Block| block.reason.as_deref() == Some(reason.as_str());
        self.blocks.iter().filter(is_its)
    }

    /// The calls that were to change an app.
    fn changes(&self, app: &str) -> usize {
        use cloud_simulator::Operation::{Add, Delete, DeleteApp, Reset, ResetSecret};
        let is_change = |operation| [Add, Delete, DeleteApp, Reset, ResetSecret].contains(&operation);
        let ledger = self.stage.cloud.ledger();
        ledger.about(app).filter(|entry| is_change(entry.operation)).count()
    }
}

impl Block {
    /// Its commands, each in one line.
    fn commands(&self) -> Vec<String> {
        let joined = self.script.replace("\\\n    ", "");
        joined.lines().map(str::to_owned).collect()
    }
}

/// A folder with a `kubectl` that speaks with the control plane as its administrator.
fn tools(stage: &Stage) -> PathBuf {
    let kubectl = stage.plane.kubectl();
    let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().unwrap());
    let mut script = "#!/bin/sh\n".to_owned();
    for (name, value) in kubectl.get_envs() {
        let _ = writeln!(script, "export {}={}", name.to_str().unwrap(), quoted(value.unwrap()));
    }
    // As the README says for such a server.
    if stage
        .plane
        .binaries()
        .minor()
        .is_some_and(|minor| minor < FIRST_WITH_VALIDATION)
    {
        script += "case $1 in apply|create|edit|replace) set -- \"$@\" --validate=false;; esac\n";
    }
    if stage.kubectl_minor().is_some_and(|minor| minor < FIRST_WITH_FOLDERS) {
        // It knows no folder as a resource of a kustomization, so it gets the roles as files.
        script += "case \"$1 $2\" in 'apply -k')
            case $3 in *restart) set -- apply -f deploy/kustomize/components/restart/rbac-restart.yaml;;
            *) set -- apply -f deploy/kustomize/base/rbac.yaml;; esac;; esac\n";
    }
    let words = [kubectl.get_program()].into_iter().chain(kubectl.get_args());
    let words: Vec<String> = words.map(quoted).collect();
    let _ = writeln!(script, "exec {} \"$@\"", words.join(" "));
    let folder = stage.plane.dir().join("tools");
    fs::create_dir(&folder).unwrap();
    let program = folder.join("kubectl");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// One way out of one stop: the block of that number under the reason's heading.
struct Way {
    reason: Reason,
    number: usize,
    run: Box<dyn FnOnce(Case) -> LocalBoxFuture<'static, ()>>,
}

fn way<F>(reason: Reason, number: usize, run: impl FnOnce(Case) -> F + 'static) -> Way
where
    F: Future<Output = ()> + 'static,
{
    Way {
        reason,
        number,
        run: Box::new(|case| run(case).boxed_local()),
    }
}

/// Every way that can be followed beside others.
fn ways() -> Vec<Way> {
    vec![
        way(Reason::AmbiguousOutcome, 0, code::ambiguous_outcome),
        way(Reason::CodeNotListed, 0, code::not_listed_and_answered),
        way(Reason::CodeNotListed, 1, code::not_listed_and_named),
        way(Reason::AppCodeAmbiguous, 0, code::ambiguous_and_answered),
        way(Reason::AppCodeAmbiguous, 1, code::ambiguous_and_named),
        way(Reason::SeedUnreadable, 0, code::seed_made),
        way(Reason::SeedUnreadable, 1, code::seed_mended),
        way(Reason::SeedUnreadable, 2, code::seed_left_out),
        way(Reason::CodesMasked, 0, code::masked),
        way(Reason::CodeNotAddressable, 0, code::not_addressable),
        way(Reason::CapacityExhausted, 0, code::no_room),
        way(Reason::CapacityExhausted, 1, code::no_room_beside),
        way(Reason::Conflict, 0, code::elder_deleted),
        way(Reason::Conflict, 1, code::another_code),
        way(Reason::Conflict, 2, code::another_secret),
        way(Reason::CredentialsMissing, 0, cloud::credentials_missing),
        way(Reason::CredentialsMissing, 1, cloud::credentials_incomplete),
        way(Reason::CredentialsMissing, 2, cloud::credentials_of_the_cluster),
        way(Reason::CredentialsMissing, 3, own::completed),
        way(Reason::CredentialsRejected, 0, cloud::credentials_rejected),
        way(Reason::CredentialsRejected, 1, cloud::token_left),
        way(Reason::CredentialsRejected, 2, own::not_used),
        way(Reason::CredentialsRejected, 3, own::corrected),
        way(Reason::NotAuthorized, 0, cloud::not_authorized),
        way(Reason::NotAuthorized, 1, own::of_another_user),
        way(Reason::NotOwner, 0, cloud::not_owner),
        way(Reason::AppNotFound, 0, cloud::no_such_app),
        way(Reason::AppNotFound, 1, cloud::another_region),
        way(Reason::AppTypeUnsupported, 0, cloud::another_gateway),
        way(Reason::AppNameMismatch, 0, cloud::another_name),
        way(Reason::AppNameMismatch, 1, cloud::another_app),
        way(Reason::SecretConflict, 0, cluster::foreign_secret_left),
        way(Reason::SecretConflict, 1, cluster::foreign_secret_deleted),
        way(Reason::SecretConflict, 2, cluster::foreign_secret_adopted),
        way(Reason::SecretConflict, 3, cluster::old_secret_kept),
        way(Reason::SecretConflict, 4, cluster::old_secret_given),
        way(Reason::SecretConflict, 5, cluster::another_key),
        way(Reason::SecretConflict, 6, cluster::key_removed),
        way(Reason::SecretConflict, 7, cluster::label_removed),
        way(Reason::SecretConflict, 8, cluster::annotation_removed),
        way(Reason::SecretNotWritable, 0, cluster::immutable_secret),
        way(
            Reason::SecretNotWritable,
            1,
            cluster::immutable_secret_of_an_open_rotation,
        ),
        way(Reason::SecretNotWritable, 2, cluster::another_type_in_an_open_rotation),
        way(Reason::SecretNotWritable, 3, cluster::secret_held_by_a_finalizer),
        way(Reason::SecretNotWritable, 4, cluster::immutable_secret_of_others),
        way(Reason::SecretNotWritable, 5, cluster::absent_secret_created),
        way(Reason::SecretNotWritable, 6, cluster::absent_secret_made),
        way(Reason::UnknownIntentFormat, 0, cluster::unknown_format),
        way(Reason::InvalidSpec, 0, cluster::invalid_spec),
        way(Reason::ScheduleNeverFires, 0, cluster::no_such_date),
        way(Reason::ScheduleNeverFires, 1, cluster::interval_instead),
        way(Reason::ScheduleNeverFires, 2, cluster::window_corrected),
        way(Reason::ScheduleNeverFires, 3, cluster::no_windows),
        way(Reason::TemplateInvalid, 0, cluster::template_corrected),
        way(Reason::TemplateInvalid, 1, cluster::template_left_out),
        way(Reason::EndpointNotAllowed, 0, cluster::another_endpoint),
        way(Reason::EndpointNotAllowed, 1, cluster::verified_elsewhere),
        way(Reason::EndpointNotAllowed, 2, cluster::not_verified),
        way(Reason::IdentityNotAllowed, 0, cluster::no_credentials),
        way(Reason::BudgetExhausted, 0, cluster::budget_used_up),
        way(Reason::BudgetExhausted, 1, cluster::budget_used_up_by_the_spec),
        way(Reason::VerificationFailed, 0, consumer::another_url),
        way(Reason::VerificationFailed, 1, consumer::no_verification),
        way(Reason::RolloutHeld, 0, consumer::paused),
        way(Reason::RolloutHeld, 2, consumer::no_such_workload),
        way(Reason::RolloutHeld, 3, consumer::rolled_back),
        way(Reason::RolloutHeld, 4, consumer::stuck),
        way(Reason::RolloutHeld, 5, consumer::left_to_a_person),
        way(Reason::RolloutHeld, 6, consumer::partitioned),
        way(Reason::RolloutHeld, 7, consumer::not_waited_for),
        way(Reason::NotRetired, 0, consumer::left_code),
    ]
}

/// Those that concern the whole operator, one after another.
fn ways_alone() -> Vec<Way> {
    vec![
        way(Reason::SecretNotWritable, 7, cluster::lost_rights),
        way(Reason::RolloutHeld, 1, consumer::no_right_to_restart),
        way(Reason::FinalizerRefused, 0, consumer::no_right_to_hold),
    ]
}

#[test]
fn each_block_of_the_page_is_followed() {
    let mut followed = BTreeSet::new();
    for way in ways().iter().chain(&ways_alone()) {
        assert!(followed.insert((way.reason.as_str().to_owned(), way.number)));
    }
    let mut on_page: BTreeSet<(String, usize)> = BTreeSet::new();
    for reason in page::blocks(&page::text()).into_iter().filter_map(|block| block.reason) {
        let number = on_page.iter().filter(|(other, _)| *other == reason).count();
        on_page.insert((reason, number));
    }
    assert_eq!(on_page, followed);
}

/// `RUNBOOK_ONLY` in the environment names the only reason to try.
fn is_wanted(way: &Way) -> bool {
    std::env::var("RUNBOOK_ONLY").map_or(true, |only| only == way.reason.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_stop_tells_its_cause_and_following_the_page_ends_it() {
    let suite = Suite::start().await;
    LocalSet::new().run_until(follow_all(Rc::new(suite))).await;
}

async fn follow_all(suite: Rc<Suite>) {
    let (start, mut failed) = (Instant::now(), Vec::new());
    let alone = ways_alone().into_iter().map(|way| vec![way]);
    let mut together = ways();
    together.sort_by_key(|way| !own::CASES.contains(&(way.reason, way.number))); // one after another takes longest
    for ways in std::iter::once(together).chain(alone) {
        let start = |way: Way| {
            let name = format!("{}, block {}", way.reason.as_str(), way.number);
            let case = Case::new(&suite, way.reason, way.number);
            let told = format!("{name}: ended");
            let run = (way.run)(case).inspect(move |()| println!("{told} after {:?}", start.elapsed()));
            (name, tokio::task::spawn_local(run))
        };
        let running: Vec<_> = ways.into_iter().filter(is_wanted).map(start).collect();
        for (name, case) in running {
            if case.await.is_err() {
                failed.push(name);
            }
        }
    }
    assert!(failed.is_empty(), "these did not end as the page says: {failed:?}");
    for (app, changes) in suite.ended.borrow().iter() {
        assert_eq!(suite.changes(app), *changes, "{app} was changed once more later");
    }
    if std::env::var_os("RUNBOOK_ONLY").is_none() {
        // All but `NotRetired`, whose event says what to do in the console.
        let reasons = Reason::stops().chain([Reason::VerificationFailed, Reason::RolloutHeld]);
        assert_eq!(
            *suite.told.borrow(),
            reasons.collect(),
            "resolved by what their messages tell"
        );
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
