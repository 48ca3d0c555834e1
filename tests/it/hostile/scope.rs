//! T1, T2, T4, T6, T12, T21: whoever writes a resource, or a Secret beside it, gets nothing by it that they could not
//! have otherwise: no other namespace, no other Secret, no other app, no other identity.

use appcode_operator::api::{ADOPT_FINGERPRINT, ConditionType, ROTATE_REQUESTED_AT};
use appcode_operator::identity::{Allowance, Identity};
use appcode_operator::ids::{AppId, Fingerprint};
use cloud_simulator::{NewApp, Operation};
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::World;
use crate::support::api_server::{ROTATIONS, SECRETS};
use crate::support::process::notice;
use crate::support::script::{Act, Call, Moment, Strike, Verb};
use crate::support::stage::{self, CREDENTIALS, NAME, NAMESPACE};

const ELSEWHERE: &str = "elsewhere";
const CANARY: &str = "canary-of-another-namespace";

/// Puts a text into an object.
type Change = fn(&mut Value, &str);

/// Every request on the API server stayed in the namespace and asked for something that can be there.
fn assert_stayed_at_home(world: &World, row: &str) {
    assert_eq!(world.stage.api.violations(), Vec::<String>::new(), "{row}");
    for asked in world.stage.api.asked() {
        let is_name = |name: &str| {
            name.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        };
        let is_known = asked.verb != Verb::Other && is_name(&asked.name);
        assert!(is_known && asked.namespace == NAMESPACE, "{row}: {asked:?}");
    }
}

#[tokio::test]
async fn a_name_in_a_reference_never_leads_out_of_the_namespace() {
    let long = "a".repeat(254);
    let names = [
        "../../elsewhere/secrets/credentials",
        "../secrets/credentials",
        "elsewhere/credentials",
        "/api/v1/namespaces/elsewhere/secrets/credentials",
        "..",
        ".",
        "credentials/../../../elsewhere/secrets/credentials",
        "..%2f..%2felsewhere%2fsecrets%2fcredentials",
        "credentials?watch=true",
        "credentials#",
        "credentials/status",
        "CREDENTIALS",
        "credentials ",
        "creden\r\ntials",
        "creden\0tials",
        "\u{441}redentials", // a Cyrillic letter that looks like c
        "ｃredentials",
        &long,
        "",
    ];
    let fields: [(&str, Change); 4] = [
        ("credentialsRef.name", |spec, name| {
            spec["credentialsRef"]["name"] = json!(name);
        }),
        ("target.name", |spec, name| spec["target"] = json!({ "name": name })),
        ("appCodeFrom.secretKeyRef.name", |spec, name| {
            spec["appCodeFrom"] = json!({ "secretKeyRef": { "name": name, "key": "code" } });
        }),
        ("status.target.name", |_, _| ()),
    ];
    for (field, set) in fields {
        for name in names {
            let row = format!("{field} = {name:?}");
            let mut world = World::direct();
            let mut other = stage::secret(CREDENTIALS, &[("token", CANARY)]);
            other["metadata"]["namespace"] = json!(ELSEWHERE);
            let other = world.stage.api.apply_new(SECRETS, other, world.stage.time.truth());
            world.stage.create_rotation(|spec| set(spec, name));
            if field.starts_with("status") {
                let status = json!({ "target": { "name": name, "key": "appCode" } });
                world.stage.edit_rotation(NAME, |object| object["status"] = status);
            }
            world.run_for(SignedDuration::from_mins(5)).await;
            assert_stayed_at_home(&world, &row);
            assert_eq!(
                world.stage.api.object(SECRETS, ELSEWHERE, CREDENTIALS),
                Some(other),
                "{row}"
            );
            if field.starts_with("status") {
                assert!(world.is_ready(), "{row}: {:?}", world.condition(ConditionType::Ready));
            } else {
                assert_eq!(world.stalled().as_deref(), Some("InvalidSpec"), "{row}");
                let (_, _, message) = world.condition(ConditionType::Stalled);
                assert!(
                    !message.contains(CANARY) && (name.len() < 3 || !message.contains(name)),
                    "{row}: {message}"
                );
                assert_eq!(world.ledger().requests.len(), 0, "{row}");
            }
        }
    }
}

#[tokio::test]
async fn the_keeper_that_a_secret_names_is_no_path() {
    for keeper in [
        "shop/../../elsewhere/appcoderotations/checkout",
        "shop/..",
        "shop/other/status",
        "shop/other?watch=true",
        "shop/",
        "shop/a\r\nb",
        "elsewhere/../shop/appcoderotations/other",
        "../elsewhere/checkout",
        "/",
        "",
    ] {
        let mut world = World::settled().await;
        world.stage.api.edit(SECRETS, NAMESPACE, NAME, |object| {
            object["metadata"]["annotations"]["appcode.dev/resource"] = json!(keeper);
        });
        world.stage.set_trigger("one");
        world.run_for(SignedDuration::from_mins(20)).await;
        assert_stayed_at_home(&world, keeper);
        assert!(
            world.is_ready() || world.stalled().as_deref() == Some("SecretConflict"),
            "{keeper:?}"
        );
    }
}

#[tokio::test]
async fn a_key_of_a_secret_is_no_path() {
    for key in ["", ".", "..", "../code", "a/b", "a\nb", "a\0b", "é", &"a".repeat(254)] {
        for is_target in [true, false] {
            let mut world = World::direct();
            world.stage.create_secret("seed", &[("code", CANARY)]);
            world.stage.create_rotation(|spec| {
                if is_target {
                    spec["target"] = json!({ "key": key });
                } else {
                    spec["appCodeFrom"] = json!({ "secretKeyRef": { "name": "seed", "key": key } });
                }
            });
            world.run_for(SignedDuration::from_mins(5)).await;
            assert_stayed_at_home(&world, key);
            assert_eq!(world.stalled().as_deref(), Some("InvalidSpec"), "{key:?}");
            assert_eq!(
                (world.ledger().requests.len(), world.stage.secret(NAME)),
                (0, None),
                "{key:?}"
            );
        }
    }
}

/// Secrets that stand where the target would, and why each stops the resource.
fn foreign_secrets(ours: &Value) -> Vec<(&'static str, Value, &'static str)> {
    let of_type = |kind: &str| {
        let mut secret = stage::secret(NAME, &[("appCode", CANARY), ("token", CANARY)]);
        secret["type"] = json!(kind);
        secret
    };
    let forged = |change: fn(&mut Value)| {
        let mut secret = ours.clone();
        secret["metadata"] = json!({
            "namespace": NAMESPACE, "name": NAME,
            "labels": ours["metadata"]["labels"], "annotations": ours["metadata"]["annotations"],
        });
        change(&mut secret);
        secret
    };
    vec![
        ("plain", of_type("Opaque"), "SecretConflict"),
        ("a certificate", of_type("kubernetes.io/tls"), "SecretConflict"),
        (
            "an image pull secret",
            of_type("kubernetes.io/dockerconfigjson"),
            "SecretConflict",
        ),
        ("basic auth", of_type("kubernetes.io/basic-auth"), "SecretConflict"),
        (
            "a service account's token",
            of_type("kubernetes.io/service-account-token"),
            "SecretConflict",
        ),
        (
            "a bootstrap token",
            of_type("bootstrap.kubernetes.io/token"),
            "SecretConflict",
        ),
        (
            "without our label",
            forged(|secret| secret["metadata"]["labels"] = json!({ "app.kubernetes.io/managed-by": "helm" })),
            "SecretConflict",
        ),
        (
            "of a resource in another namespace",
            forged(|secret| secret["metadata"]["annotations"]["appcode.dev/resource"] = json!("elsewhere/checkout")),
            "SecretConflict",
        ),
        (
            "of another app",
            forged(|secret| {
                let app = secret["metadata"]["annotations"]["appcode.dev/app"].as_str().unwrap();
                secret["metadata"]["annotations"]["appcode.dev/app"] = json!(format!("{app}0"));
            }),
            "SecretConflict",
        ),
        (
            "dressed up as ours, of the type of a service account's token",
            forged(|secret| secret["type"] = json!("kubernetes.io/service-account-token")),
            "SecretNotWritable",
        ),
        (
            "dressed up as ours, of the type of a certificate",
            forged(|secret| secret["type"] = json!("kubernetes.io/tls")),
            "SecretNotWritable",
        ),
        (
            "ours but immutable",
            forged(|secret| secret["immutable"] = json!(true)),
            "SecretNotWritable",
        ),
    ]
}

#[tokio::test]
async fn a_secret_that_is_not_ours_is_neither_written_nor_a_reason_to_reset() {
    let settled = World::settled().await;
    let ours = settled.stage.secret(NAME).unwrap();
    assert_eq!(
        ours["metadata"]["ownerReferences"],
        Value::Null,
        "nothing is deleted together with a resource"
    );
    for (row, secret, reason) in foreign_secrets(&ours) {
        let mut world = World::direct();
        // The record of a forged one must be about this world's app, or it would be told apart by that alone.
        let app = [world.stage.endpoint.as_str(), &world.stage.project, &world.stage.app].join("/");
        let theirs = ours["metadata"]["annotations"]["appcode.dev/app"].as_str().unwrap();
        let text = secret.to_string().replace(theirs, &app);
        let secret = serde_json::from_str(&text).unwrap();
        world.stage.api.apply_new(SECRETS, secret, world.stage.time.truth());
        let before = world.stage.secret(NAME);
        let seed = world.live().remove(0);
        world.stage.judge.excuse(NAME);
        world.stage.create_rotation(|spec| spec["appCode"] = json!(seed));
        world.run_for(SignedDuration::from_mins(20)).await;
        world.assert_sound();
        assert_eq!(world.stalled().as_deref(), Some(reason), "{row}");
        assert_eq!(world.stage.secret(NAME), before, "{row}");
        assert_eq!(world.calls(Operation::Reset) + world.calls(Operation::Add), 0, "{row}");

        world.stage.api.delete(ROTATIONS, NAMESPACE, NAME);
        world.run_for(SignedDuration::from_mins(5)).await;
        assert_eq!(world.stage.secret(NAME), before, "{row}: it outlives the resource");
    }
}

#[tokio::test]
async fn a_secret_that_somebody_else_creates_first_is_theirs() {
    let create = |call: &Call| {
        matches!(
            call,
            Call::Api {
                verb: Verb::Create,
                resource: SECRETS,
                ..
            }
        )
    };
    for (row, with_seed) in [("taken over", false), ("rotated at once", true)] {
        let mut world = World::direct();
        let seed = world.live().remove(0);
        let act = Act::new("somebody creates it", |stage| {
            stage.create_secret(NAME, &[("appCode", CANARY)]);
        });
        world
            .stage
            .script
            .begin_if(vec![(0, Strike::Act(Moment::Before, act))], create);
        world.stage.create_rotation(|spec| {
            if with_seed {
                spec["appCode"] = json!(seed);
            }
        });
        world.run_for(SignedDuration::from_hours(3)).await;
        world.assert_sound();
        assert_eq!(world.stage.script.struck(), 1, "{row}");
        assert_eq!(world.stalled().as_deref(), Some("SecretConflict"), "{row}");
        let secret = world.stage.secret(NAME).unwrap();
        assert_eq!(secret["metadata"]["annotations"], Value::Null, "{row}");
        assert_eq!(
            (world.stage.code_in(NAME).as_deref(), world.mutations()),
            (Some(CANARY), 0),
            "{row}"
        );
    }
}

#[tokio::test]
async fn the_token_of_a_service_account_is_not_sent_to_the_cloud() {
    let mut world = World::new().await;
    world.stage.delete_secret(CREDENTIALS);
    let mut token = stage::secret(CREDENTIALS, &[("token", CANARY), ("namespace", NAMESPACE)]);
    token["type"] = json!("kubernetes.io/service-account-token");
    world.stage.api.apply_new(SECRETS, token, world.stage.time.truth());
    world.stage.create_rotation(|_| ());
    world.run_for(SignedDuration::from_hours(1)).await;
    world.assert_sound();
    assert_eq!(world.ledger().requests.len(), 0);
    assert_eq!(world.stalled().as_deref(), Some("CredentialsMissing"));
    let (_, _, message) = world.condition(ConditionType::Stalled);
    assert!(message.contains("service account"), "{message}");
}

#[tokio::test]
async fn the_operators_own_identity_serves_the_named_namespace_and_app_only() {
    let world = World::new().await;
    let (app, user) = (world.stage.app.clone(), world.stage.user.clone());
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [("accessKey", &user.ak), ("secretKey", &user.sk)] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let near = |namespace: &str, app: &str| (namespace.to_owned(), app.to_owned());
    let upper = app.to_uppercase();
    for (namespace, allowed_app) in [
        near(ELSEWHERE, &app),
        near("sho", &app),
        near("shop2", &app),
        near("shop-", &app),
        near(NAMESPACE, &app[1..]),
        near(NAMESPACE, &format!("{app}0")),
        near(NAMESPACE, &if upper == app { app.to_lowercase() } else { upper }),
    ] {
        let row = format!("{namespace}={allowed_app}");
        let mut world = World::on(world.stage.clone());
        world.make.settings.identity = Identity::Directory(directory.path().into());
        world.make.settings.rules.allowances = vec![Allowance {
            namespace,
            app_id: AppId::parse(allowed_app).unwrap(),
        }];
        world.restart();
        world.stage.api.delete(ROTATIONS, NAMESPACE, NAME);
        world.stage.create_rotation(|spec| {
            spec.as_object_mut().unwrap().remove("credentialsRef");
            spec["initialRotation"] = json!("Immediate");
        });
        world.run_for(SignedDuration::from_mins(10)).await;
        world.assert_sound();
        assert_eq!(world.stalled().as_deref(), Some("IdentityNotAllowed"), "{row}");
        assert_eq!(world.ledger().requests.len(), 0, "{row}");
    }
}

#[tokio::test]
async fn an_app_that_the_named_credentials_cannot_reach_is_not_reset() {
    let mut world = World::new().await;
    let stage = world.stage.clone();
    let victim = stage.cloud.with(|cloud| {
        let account = cloud.add_account("another account");
        let project = cloud.add_project(&account.account_id, "cn-north-4");
        let user = cloud.add_user(&account.account_id, "victim", "Passw0rd!of-the-victim");
        let new = NewApp::of(&user.user_id, &project).codes(1);
        (project, cloud.create_app(stage.time.truth(), new).app_id)
    });
    for (name, project) in [("their-project", victim.0.as_str()), ("own-project", &stage.project)] {
        stage.create_rotation_named(name, |spec| {
            spec["projectId"] = json!(project);
            spec["appId"] = json!(victim.1);
            spec["initialRotation"] = json!("Immediate");
        });
    }
    world.run_for(SignedDuration::from_hours(2)).await;
    world.assert_sound();
    for name in ["their-project", "own-project"] {
        let stalled = world.stalled_of(name);
        let is_refused = matches!(stalled.as_deref(), Some("AppNotFound" | "NotAuthorized"));
        assert!(is_refused, "{name}: {stalled:?}");
        assert_eq!(stage.secret(name), None);
    }
    assert_eq!(world.calls(Operation::Reset) + world.calls(Operation::Add), 0);
}

/// What a stranger may have written on the Secret; `${OTHER}` stands for another app, `${STRANGER}` for the fingerprint
/// of a code that the cloud does not list, and `${INTENT}` for an open intent of the resource's own.
const FORGED: [(&str, &str, &str); 13] = [
    ("another app", "appcode.dev/app", "${OTHER}"),
    ("an endpoint", "appcode.dev/app", "https://evil.example/p/a"),
    ("no app", "appcode.dev/app", "../.."),
    ("an unlisted code", "appcode.dev/fingerprint", "${STRANGER}"),
    (
        "an unlisted previous code",
        "appcode.dev/previous-fingerprint",
        "${STRANGER}",
    ),
    ("an unlisted seed", "appcode.dev/seed-fingerprint", "${STRANGER}"),
    ("no fingerprint", "appcode.dev/fingerprint", "\u{1b}[31m\r\n../"),
    ("a huge number", "appcode.dev/rotation-number", "9223372036854775807"),
    ("a number below zero", "appcode.dev/rotation-number", "-1"),
    (
        "a rotation in the far future",
        "appcode.dev/rotated-at",
        "9999-12-30T00:00:00Z",
    ),
    ("a trigger that was handled", "appcode.dev/last-handled-trigger", "one"),
    (
        "a budget that is used up",
        "appcode.dev/recent-rotations",
        "2026-03-01T08:00:00Z 2026-03-01T08:00:00Z",
    ),
    (
        "no intent",
        "appcode.dev/intent",
        "{\"formatVersion\":1,\"app\":\"${OTHER}\"}",
    ),
];

#[tokio::test]
async fn annotations_on_the_secret_choose_no_app_no_endpoint_and_no_code_that_is_not_listed() {
    for (row, key, value) in FORGED {
        let mut world = World::settled().await;
        let stage = world.stage.clone();
        let new = NewApp::of(&stage.user.user_id, &stage.project).codes(1);
        let other = stage
            .cloud
            .with(|cloud| cloud.create_app(stage.time.truth(), new))
            .app_id;
        let own = stage.secret(NAME).unwrap()["metadata"]["annotations"]["appcode.dev/app"].clone();
        let app = AppId::parse(stage.app.clone()).unwrap();
        let value = value
            .replace("${OTHER}", &own.as_str().unwrap().replace(&stage.app, &other))
            .replace("${STRANGER}", &Fingerprint::of(&app, "of-a-stranger").to_string());
        stage.judge.excuse(NAME);
        stage.api.edit(SECRETS, NAMESPACE, NAME, |object| {
            object["metadata"]["annotations"][key] = json!(value);
        });
        stage.set_trigger("one");
        world.run_for(SignedDuration::from_mins(90)).await;
        assert_forging_was_in_vain(&world, row, &other);
    }
}

/// Whatever became of it: nothing was asked about the other app, one rotation at most was made, and the code in the
/// Secret is one that the cloud lists for the resource's own app.
fn assert_forging_was_in_vain(world: &World, row: &str, other: &str) {
    let ledger = world.ledger();
    assert_eq!(ledger.about(other).count(), 0, "{row}");
    assert!(world.mutations() <= 1, "{row}: {} changes", world.mutations());
    let code = world.code().unwrap();
    assert!(world.live().contains(&code), "{row}");
    assert!(
        world.is_ready() || world.stalled().is_some(),
        "{row}: it neither works nor says why not"
    );
    let violations = [world.stage.judge.violations(), world.stage.api.violations()].concat();
    assert_eq!(violations, Vec::<String>::new(), "{row}");
}

#[tokio::test]
async fn a_forged_intent_is_no_order() {
    let rows: [(&str, Change); 6] = [
        ("about another app", |intent, other| {
            intent["app"]["appId"] = json!(other);
        }),
        ("about another endpoint", |intent, _| {
            intent["app"]["endpoint"] = json!("https://evil.example");
        }),
        ("about another project", |intent, _| {
            intent["app"]["projectId"] = json!("evil");
        }),
        ("with a base that is not listed", |intent, _| {
            intent["base"] = json!("ab".repeat(32));
        }),
        ("that adds a code", |intent, _| intent["call"] = json!("Add")),
        ("that knows no code", |intent, _| intent["known"] = json!([])),
    ];
    for (row, forge) in rows {
        let mut world = World::settled().await;
        let stage = world.stage.clone();
        let new = NewApp::of(&stage.user.user_id, &stage.project).codes(1);
        let other = stage
            .cloud
            .with(|cloud| cloud.create_app(stage.time.truth(), new))
            .app_id;
        stage.set_trigger("one");
        world.run_for(SignedDuration::from_mins(15)).await;
        assert_eq!(world.mutations(), 1);
        stage.judge.excuse(NAME);
        stage.api.edit(SECRETS, NAMESPACE, NAME, |object| {
            let annotation = &mut object["metadata"]["annotations"]["appcode.dev/intent"];
            let mut intent: Value = serde_json::from_str(annotation.as_str().unwrap()).unwrap();
            intent["step"] = json!("Started");
            intent["number"] = json!(2);
            intent["rotationId"] = json!("forged");
            intent.as_object_mut().unwrap().remove("outcome");
            forge(&mut intent, &other);
            *annotation = json!(intent.to_string());
        });
        let before = world.mutations();
        world.run_for(SignedDuration::from_hours(6)).await;
        assert_eq!(world.ledger().about(&other).count(), 0, "{row}");
        assert!(
            world.mutations() - before <= 1,
            "{row}: {} changes",
            world.mutations() - before
        );
        let code = world.code().unwrap();
        assert!(world.live().contains(&code), "{row}");
        let violations = [world.stage.judge.violations(), world.stage.api.violations()].concat();
        assert_eq!(violations, Vec::<String>::new(), "{row}");
    }
}

#[tokio::test]
async fn annotations_on_the_resource_do_not_spread_and_ask_for_one_rotation_at_most() {
    let long = "x".repeat(200_000);
    for (key, value, most) in [
        (ADOPT_FINGERPRINT, "ab".repeat(8), 0),
        (ADOPT_FINGERPRINT, "ab".repeat(32), 0),
        (ADOPT_FINGERPRINT, "../../\r\n\0".to_owned(), 0),
        (ADOPT_FINGERPRINT, String::new(), 0),
        (ROTATE_REQUESTED_AT, long, 1),
        (ROTATE_REQUESTED_AT, "\u{1b}[2J\r\nlevel=info".to_owned(), 1),
        (ROTATE_REQUESTED_AT, " \n".to_owned(), 0),
        ("appcode.dev/app", "https://evil.example/p/a".to_owned(), 0),
        ("appcode.dev/intent", "{}".to_owned(), 0),
        ("appcode.dev/resource", "elsewhere/x".to_owned(), 0),
        ("kubectl.kubernetes.io/last-applied-configuration", CANARY.to_owned(), 0),
    ] {
        let row = format!("{key}={:?}", value.chars().take(20).collect::<String>());
        let mut world = World::settled().await;
        let before = world.code();
        world.stage.annotate(NAME, key, &value);
        world.run_for(SignedDuration::from_hours(3)).await;
        world.assert_ready();
        assert_eq!(world.mutations(), most, "{row}");
        assert_eq!(world.code() == before, most == 0, "{row}");
        let secret = world.stage.secret(NAME).unwrap().to_string();
        assert!(!secret.contains(CANARY) && !secret.contains("evil"), "{row}");
        assert!(secret.len() < 8192, "{row}: the Secret has {} bytes", secret.len());
    }
}

#[tokio::test]
async fn a_resource_outside_of_the_served_namespaces_causes_no_call_although_it_is_delivered() {
    let mut world = World::direct();
    for namespaces in [vec![ELSEWHERE], vec!["sho", "shop2", "SHOP", ""]] {
        world.make.settings.namespaces = namespaces.iter().map(ToString::to_string).collect();
        world.stage.api.delete(ROTATIONS, NAMESPACE, NAME);
        world
            .stage
            .create_rotation(|spec| spec["initialRotation"] = json!("Immediate"));
        world.restart(); // a listing brings it
        world.stage.script.begin(Vec::new());
        world.stage.set_trigger("one"); // and the watch its change
        world.run_for(SignedDuration::from_hours(3)).await;
        let object = world.stage.api.object(ROTATIONS, NAMESPACE, NAME).unwrap();
        world.ctx.queue.apply(&notice(&object), true, 2);
        world.run_for(SignedDuration::from_hours(3)).await;
        assert_eq!(world.stage.script.calls(), [], "{namespaces:?}");
        assert_eq!(world.ledger().requests.len(), 0);
    }
    world.make.settings.namespaces = vec![ELSEWHERE.to_owned(), NAMESPACE.to_owned()];
    world.restart();
    world.run_for(SignedDuration::from_mins(20)).await;
    world.assert_ready();
}
