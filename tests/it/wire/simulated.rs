//! The client against the simulated cloud, which checks signatures, tokens and clocks for itself and keeps a ledger.

use appcode_operator::clock::SystemClock;
use appcode_operator::modelarts::{CloudErrorKind, GuardOptions, GuardedAppCodes};
use cloud_simulator::{Cause, FaultKind, GatewayPrefix, NewApp, Operation, Options, Simulator, User};
use jiff::SignedDuration;
use pretty_assertions::assert_eq;

use super::*;

struct World {
    cloud: Simulator,
    user: User,
    project: String,
    app: cloud_simulator::App,
    client: Arc<HttpAppCodes>,
}

async fn world() -> World {
    let cloud = Simulator::start(Options::default()).await.unwrap();
    cloud.behave(|behaviour| {
        behaviour.mask_unless_asked = true;
        behaviour.extra_fields = true;
        behaviour.echo_canonical_request = true;
        // What a body says must then be the app's own, or the app is renamed.
        behaviour.apply_names = true;
    });
    let (user, project) = cloud.add_tenant("tenant");
    let app = cloud.create_app(
        NewApp::of(&user.user_id, &project)
            .codes(1)
            .name("app_demo")
            .remark("démo"),
    );
    let client = Arc::new(HttpAppCodes::new(&options(), Arc::new(SystemClock::start()), Arc::default()).unwrap());
    World {
        cloud,
        user,
        project,
        app,
        client,
    }
}

impl World {
    fn target(&self, credentials: Credentials) -> Target {
        let url = self.cloud.url();
        let mut target = target(&url, &url, credentials);
        target.app.project_id = ProjectId::parse(&self.project).unwrap();
        target.app.app_id = AppId::parse(&self.app.app_id).unwrap();
        target
    }

    fn keys(&self) -> Credentials {
        keys_of(&self.user.ak, &self.user.sk)
    }

    fn password(&self) -> Credentials {
        Credentials::Password {
            domain_name: self.user.account_name.clone(),
            user_name: self.user.name.clone(),
            password: self.user.password.as_str().into(),
        }
    }

    fn every_kind(&self) -> [Credentials; 4] {
        let temporary = self
            .cloud
            .add_temporary_key(&self.user.user_id, SignedDuration::from_hours(1));
        let token = self.cloud.issue_token(&self.user.user_id, &self.project);
        let temporary = Credentials::Keys {
            access_key: temporary.ak,
            secret_key: temporary.sk.into(),
            security_token: Some(temporary.security_token.into()),
        };
        [
            self.keys(),
            temporary,
            self.password(),
            Credentials::Token(token.into()),
        ]
    }

    fn live(&self) -> String {
        let codes = self.cloud.live_codes(&self.app.app_id);
        assert_eq!(codes.len(), 1);
        codes[0].clone()
    }

    fn resets(&self) -> usize {
        self.cloud.ledger().resets_applied(&self.app.app_id)
    }
}

fn keys_of(access_key: &str, secret_key: &str) -> Credentials {
    Credentials::Keys {
        access_key: access_key.into(),
        secret_key: secret_key.into(),
        security_token: None,
    }
}

fn texts(app: &appcode_operator::modelarts::App) -> Vec<&str> {
    app.codes.iter().map(AppCode::expose).collect()
}

#[tokio::test]
async fn every_kind_of_credentials_reads_resets_and_adds() {
    let world = world().await;
    for (number, credentials) in world.every_kind().into_iter().enumerate() {
        let target = world.target(credentials);
        let before = world.client.show_app(&target).await.unwrap();
        assert_eq!(texts(&before), [world.live()]);
        assert!(!before.masked && before.owner.as_deref() == Some(&world.user.user_id));
        assert!(before.caller.is_none() || before.caller == before.owner);
        world.cloud.behave(|behaviour| behaviour.mask_unless_asked = false);
        let echo = Echo {
            name: before.name.unwrap(),
            remark: before.remark,
        };
        let after = world.client.reset_code(&target, &before.codes[0], &echo).await.unwrap();
        assert_eq!(texts(&after), [world.live()]);
        assert_ne!(texts(&after)[0], before.codes[0].expose());
        assert_eq!(world.resets(), number + 1);
        let both = world.client.add_code(&target, &echo).await.unwrap();
        assert_eq!(both.codes.len(), 2);
        let added = texts(&both).into_iter().find(|code| *code != texts(&after)[0]).unwrap();
        assert!(world.cloud.remove_code(&world.app.app_id, added));
        let app = world.cloud.app(&world.app.app_id).unwrap();
        assert_eq!(
            (app.app_name.as_str(), app.app_remark.as_str()),
            ("app_demo", "démo"),
            "nothing was renamed"
        );
        world.cloud.behave(|behaviour| behaviour.mask_unless_asked = true);
    }
    assert_eq!(world.cloud.calls(Operation::Token), 1);
    assert_eq!(world.cloud.ledger().acts_applied(&world.app.app_id, Cause::Add), 4);
}

#[tokio::test]
async fn a_masked_answer_to_a_change_is_told_from_an_empty_one_and_a_reading_shows_the_code() {
    let world = world().await;
    let target = world.target(world.keys());
    let changed = [
        world.client.reset_code(&target, &code(&world.live()), &echo()).await,
        world.client.add_code(&target, &echo()).await,
    ];
    for app in changed {
        let app = app.unwrap();
        assert!(app.masked && app.codes.is_empty(), "a change cannot ask for plain text");
    }
    let mut shown = world.client.show_app(&target).await.unwrap().codes;
    let mut live = world.cloud.live_codes(&world.app.app_id);
    shown.sort_by(|one, other| one.expose().cmp(other.expose()));
    live.sort();
    assert_eq!(shown.iter().map(AppCode::expose).collect::<Vec<_>>(), live);
}

#[tokio::test]
async fn a_code_of_special_characters_is_signed_and_found() {
    let world = world().await;
    let odd = format!("{}+_!@#$%-=%25%2Bz~", "A0".repeat(28));
    world.cloud.remove_code(&world.app.app_id, &world.live());
    world.cloud.add_code(&world.app.app_id, Some(&odd)).unwrap();
    for credentials in [world.keys(), world.password()] {
        let target = world.target(credentials);
        let live = world.live();
        world.client.reset_code(&target, &code(&live), &echo()).await.unwrap();
        assert_ne!(world.live(), live);
    }
    assert_eq!(world.resets(), 2);
}

#[tokio::test]
async fn tokens_that_ended_early_cost_one_new_sign_in_and_no_second_reset() {
    let world = world().await;
    let target = world.target(world.password());
    world.client.show_app(&target).await.unwrap();
    for (number, end) in [Simulator::expire_tokens, Simulator::revoke_tokens]
        .into_iter()
        .enumerate()
    {
        assert!(end(&world.cloud, &world.user.user_id) >= 1);
        let live = code(&world.live());
        world.client.reset_code(&target, &live, &echo()).await.unwrap();
        assert_eq!(
            (world.resets(), world.cloud.calls(Operation::Token)),
            (number + 1, number + 2)
        );
    }
}

#[tokio::test]
async fn a_changed_password_is_rejected_without_a_storm() {
    let world = world().await;
    let target = world.target(world.password());
    world.client.show_app(&target).await.unwrap();
    world.cloud.set_password(&world.user.user_id, "Another-Passw0rd!");
    let error = world.client.show_app(&target).await.unwrap_err();
    assert_eq!(error.kind, CloudErrorKind::CredentialsRejected, "{error}");
    assert_eq!(world.cloud.calls(Operation::Token), 2);
}

#[tokio::test]
async fn a_clock_that_is_off_by_more_than_a_quarter_of_an_hour_is_told() {
    for prefix in [GatewayPrefix::Apig, GatewayPrefix::Apigw] {
        for (minutes, is_taken) in [(14, true), (-14, true), (17, false), (-17, false)] {
            let world = world().await;
            world.cloud.behave(|behaviour| behaviour.gateway_prefix = prefix);
            world.cloud.set_clock_skew(SignedDuration::from_mins(minutes));
            let outcome = world.client.show_app(&world.target(world.keys())).await;
            assert_eq!(outcome.is_ok(), is_taken, "{minutes}: {outcome:?}");
            if let Err(error) = outcome {
                assert_eq!(error.kind, CloudErrorKind::CredentialsRejected);
                assert!(error.message.contains("the clocks differ"), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn a_wrong_key_locks_without_the_guard_and_never_with_it() {
    let world = world().await;
    let target = world.target(keys_of(&world.user.ak, "wrong"));
    let clock = Arc::new(SystemClock::start());
    let options = GuardOptions {
        per_caller_rate: 1000.0,
        ..GuardOptions::default()
    };
    let guarded = GuardedAppCodes::new(Arc::clone(&world.client) as _, clock, options, Arc::default());
    let call = || guarded.show_app(&target);
    let _ = tokio::join!(call(), call(), call(), call(), call(), call(), call(), call());
    for _ in 0..20 {
        assert!(guarded.show_app(&target).await.is_err());
    }
    assert_eq!(world.cloud.calls(Operation::Show), 1);
    assert!(!world.cloud.is_locked(&world.user.ak));
    let mut last = None;
    for _ in 0..7 {
        last = world.client.show_app(&target).await.err();
    }
    assert!(world.cloud.is_locked(&world.user.ak));
    assert_eq!(
        last.map(|error| error.kind),
        Some(CloudErrorKind::LockedOut {
            retry_after: Duration::from_secs(330)
        })
    );
}

#[tokio::test]
async fn an_echoed_request_does_not_tell_the_code() {
    let world = world().await;
    let live = world.live();
    let error = world
        .client
        .reset_code(&world.target(keys_of(&world.user.ak, "wrong")), &code(&live), &echo())
        .await
        .unwrap_err();
    assert!(error.message.contains("canonicalRequest…"), "{error}");
    assert!(!format!("{error:?}").contains(&live));
}

#[tokio::test]
async fn strangers_and_wrong_projects_and_lost_apps_are_told_apart() {
    let world = world().await;
    let stranger = world
        .cloud
        .add_user(&world.user.account_id, "stranger", "Stranger-Passw0rd!");
    world.cloud.behave(|behaviour| behaviour.show_to_strangers = true);
    let live = code(&world.live());
    let target = world.target(keys_of(&stranger.ak, &stranger.sk));
    assert_eq!(
        world.client.reset_code(&target, &live, &echo()).await.unwrap_err().kind,
        CloudErrorKind::NotAuthorized
    );
    let mut elsewhere = world.target(world.keys());
    elsewhere.app.app_id = AppId::parse("0123456789abcdef0123456789abcdef").unwrap();
    assert_eq!(
        world.client.show_app(&elsewhere).await.unwrap_err().kind,
        CloudErrorKind::AppNotFound
    );
    assert_eq!(
        world
            .client
            .reset_code(&elsewhere, &live, &echo())
            .await
            .unwrap_err()
            .kind,
        CloudErrorKind::NotFound
    );
    let unknown = code(&"0".repeat(64));
    let target = world.target(world.keys());
    assert_eq!(
        world
            .client
            .reset_code(&target, &unknown, &echo())
            .await
            .unwrap_err()
            .kind,
        CloudErrorKind::NotFound
    );
    assert_eq!(world.resets(), 0);
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_the_list_shows_what_became_of_it() {
    let world = world().await;
    let target = world.target(world.keys());
    let before = world.live();
    world.cloud.inject(FaultKind::CutAfter);
    let outcome = world.client.reset_code(&target, &code(&before), &echo()).await;
    world.cloud.clear_all();
    assert_eq!(outcome.unwrap_err().kind, CloudErrorKind::UnknownOutcome);
    assert_eq!((world.resets(), world.cloud.calls(Operation::Reset)), (1, 1));
    assert_eq!(texts(&world.client.show_app(&target).await.unwrap()), [world.live()]);
    assert_ne!(world.live(), before);
}

#[tokio::test]
async fn a_change_that_signing_in_delays_is_not_sent() {
    let world = world().await;
    let options = HttpOptions {
        send_within: Duration::ZERO,
        ..options()
    };
    let client = HttpAppCodes::new(&options, Arc::new(SystemClock::start()), Arc::default()).unwrap();
    let target = world.target(world.password());
    let code = AppCode::parse(world.live()).unwrap();
    let error = client.reset_code(&target, &code, &echo()).await.unwrap_err();
    assert_eq!(error.kind, CloudErrorKind::NotSent, "{error}");
    assert_eq!(world.cloud.calls(Operation::Reset), 0);
    let error = client.add_code(&target, &echo()).await.unwrap_err();
    assert_eq!(error.kind, CloudErrorKind::NotSent, "{error}");
    assert_eq!(world.cloud.calls(Operation::Add), 0);
    client.show_app(&target).await.unwrap(); // a read may come late
}
