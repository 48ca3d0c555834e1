//! T5, T6, T7, T16: which hosts are connected to and what they get to see: those of the settings and no others, whatever
//! the spec, a redirect or a name server says; and names, connections and handshakes that fail.

use std::time::Duration;

use appcode_operator::api::ConditionType;
use appcode_operator::args::Args;
use appcode_operator::endpoint::Endpoint;
use appcode_operator::modelarts::{CloudErrorKind, Credentials};
use clap::CommandFactory as _;
use cloud_simulator::Operation;
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::json;

use crate::support::World;
use crate::support::script::Call;
use crate::support::stage::{CREDENTIALS, NAME};
use crate::wire::server::{Reply, Seen, Server};
use crate::wire::{
    CODE, PASSWORD, SECRET_KEY, answers_well, app_json, client_with, each_call, impatient, keys, options,
};
use crate::wire::{password, target};

const ASKED: fn(&Call) -> bool = |call| *call == Call::Cloud(Operation::Show);

fn port(server: &Server) -> &str {
    server.origin.rsplit(':').next().unwrap()
}

/// Everything that arrived in `seen`, as one text.
fn all_of(seen: &[Seen]) -> String {
    let of_one = |seen: &Seen| {
        format!(
            "{} {:?} {}",
            seen.target,
            seen.headers,
            String::from_utf8_lossy(&seen.body)
        )
    };
    seen.iter().map(of_one).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn an_endpoint_that_only_looks_like_an_allowed_one_is_not_connected_to() {
    let trap = answers_well();
    let port = port(&trap);
    let mut world = World::new().await;
    let allowed = world.stage.endpoint.clone();
    let host = allowed.strip_prefix("http://").unwrap().to_owned();
    let spellings = [
        format!("http://127.0.0.1:{port}"),
        format!("https://127.0.0.1:{port}"),
        format!("http://localhost:{port}"),
        format!("http://LOCALHOST:{port}"),
        format!("http://localhost.:{port}"),
        format!("http://2130706433:{port}"),
        format!("http://0177.0.0.1:{port}"),
        format!("http://0x7f000001:{port}"),
        format!("http://0x7f.1:{port}"),
        format!("http://127.1:{port}"),
        format!("http://0:{port}"),
        format!("http://[::1]:{port}"),
        format!("http://[::ffff:127.0.0.1]:{port}"),
        format!("http://[::ffff:7f00:1]:{port}"),
        format!("http://[0:0:0:0:0:ffff:127.0.0.1]:{port}"),
        format!("http://①②⑦.0.0.1:{port}"),
        format!("http://127。0。0。1:{port}"),
        format!("http://user@127.0.0.1:{port}"),
        format!("http://{host}@127.0.0.1:{port}"),
        format!("{allowed}@127.0.0.1:{port}"),
        format!("http://127.0.0.1:{port}#@{host}"),
        format!("http://127.0.0.1:{port}?{allowed}"),
        format!("http://127.0.0.1:{port}/{allowed}"),
        format!("http://127.0.0.1:{port}\\@{host}"),
        format!("http://127.0.0.1:{port}\r\nHost: {host}"),
        format!("{allowed}\t:{port}"),
        format!("{allowed}0"),
        format!("{allowed}/../.."),
        format!("{allowed}?"),
        format!("{allowed}#"),
        format!("{allowed} "),
        format!("//127.0.0.1:{port}"),
        format!("127.0.0.1:{port}"),
        format!("ftp://127.0.0.1:{port}"),
        format!("file:///127.0.0.1:{port}"),
        format!("gopher://127.0.0.1:{port}"),
        allowed.replace("http:", "HTTP:"),
        allowed.replace("http:", "https:"),
        String::new(),
    ];
    for (number, endpoint) in spellings.into_iter().enumerate() {
        let name = format!("endpoint-{number}");
        world
            .stage
            .create_rotation_named(&name, |spec| spec["endpoint"] = json!(endpoint));
        world.run_for(SignedDuration::from_secs(10)).await;
        let stalled = world.stalled_of(&name).unwrap_or_default();
        assert!(
            ["InvalidSpec", "EndpointNotAllowed"].contains(&stalled.as_str()),
            "{endpoint:?}: {stalled}"
        );
        let (_, _, message) = world.condition_of(&name, ConditionType::Stalled);
        assert!(
            endpoint.len() < 9 || !message.contains(&endpoint),
            "{endpoint:?}: {message}"
        );
    }
    for region in [
        format!("x@127.0.0.1:{port}/"),
        format!("127.0.0.1:{port}#"),
        "cn-north-4.evil.example".to_owned(),
        "cn-north-4/".to_owned(),
        "CN-NORTH-4".to_owned(),
        "\u{441}n-north-4".to_owned(),
    ] {
        world.stage.create_rotation_named("region", |spec| {
            spec.as_object_mut().unwrap().remove("endpoint");
            spec["region"] = json!(region);
        });
        world.run_for(SignedDuration::from_secs(10)).await;
        assert_eq!(world.stalled_of("region").as_deref(), Some("InvalidSpec"), "{region}");
        world.stage.api.delete(
            crate::support::api_server::ROTATIONS,
            crate::support::stage::NAMESPACE,
            "region",
        );
    }
    assert_eq!((trap.connections(), world.ledger().requests.len()), (0, 0));
    world.assert_sound();
}

/// An allowed endpoint at which nothing good answers, and what the resource then says.
async fn no_answer(endpoint: String, insecure: bool, says: &str) {
    let mut world = World::new().await;
    let pair = Endpoint {
        modelarts: endpoint.clone(),
        iam: endpoint.clone(),
    };
    world.make.settings.rules.endpoints.allowed.push(pair);
    world.make.http.allow_insecure_loopback = insecure;
    world.make.http.connect_timeout = Duration::from_secs(2);
    world.restart();
    world.stage.create_rotation(|spec| {
        spec["endpoint"] = json!(endpoint);
        spec["initialRotation"] = json!("Immediate");
    });
    world.stage.script.begin(Vec::new());
    world.run_for(SignedDuration::from_mins(20)).await;
    world.assert_sound();
    let (ready, reason, message) = world.condition(ConditionType::Ready);
    assert_eq!(
        (ready.as_str(), reason.as_str()),
        ("False", "Retrying"),
        "{endpoint}: {message}"
    );
    assert!(
        message.contains("no connection") && message.contains(says),
        "{endpoint}: {message}"
    );
    let asked = world.stage.script.count(ASKED);
    assert!(
        (3..=20).contains(&asked),
        "{endpoint}: asked {asked} times in 20 minutes"
    );
    assert_eq!(
        (
            world.stage.secret(NAME),
            world
                .stage
                .script
                .count(|call| matches!(call, Call::Cloud(Operation::Reset)))
        ),
        (None, 0)
    );
    assert_eq!(world.ledger().requests.len(), 0);
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_is_told_and_asked_for_ever_more_rarely() {
    for name in [
        "does-not-exist.invalid",
        "a.b.c.does-not-exist.invalid",
        "0.does-not-exist.invalid",
    ] {
        no_answer(format!("https://{name}"), true, name).await;
    }
}

#[tokio::test]
async fn an_allowed_name_that_now_points_at_loopback_is_not_connected_to() {
    let trap = answers_well();
    let endpoint = trap.origin.replace("http://127.0.0.1", "https://localhost");
    no_answer(endpoint, false, "no address that may be connected to").await;
    assert_eq!(trap.connections(), 0);
}

#[tokio::test]
async fn a_connection_or_a_handshake_that_fails_is_told_and_no_request_is_sent() {
    let closing = Server::closing_at_once();
    let plain = Server::saying(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let https = |server: &Server| server.origin.replace("http:", "https:");
    no_answer(Server::nowhere(), true, "refused").await;
    no_answer(https(&closing), true, "no connection to").await;
    no_answer(https(&plain), true, "does not speak TLS").await;
    assert!(plain.connections() > 0 && closing.connections() > 0);
}

/// Where a redirect from `from` may lead, with `other` as the host that must not be reached.
fn locations(from: &str, other: &Server) -> Vec<String> {
    let port = port(other);
    vec![
        other.origin.clone(),
        format!("{}/v1/stolen", other.origin),
        format!("//127.0.0.1:{port}/v1"),
        format!("http://localhost:{port}/v1"),
        format!("https://127.0.0.1:{port}/v1"),
        format!("http://127.0.0.1:{port}@127.0.0.1:{port}/"),
        format!("http://2130706433:{port}/"),
        format!("{from}/v1/other-path"),
        "/v1/other-path".to_owned(),
        "?x=1".to_owned(),
        String::new(),
        "ftp://127.0.0.1/".to_owned(),
        "\u{441}:\\\\".to_owned(),
    ]
}

#[tokio::test]
async fn a_redirect_of_any_kind_carries_nothing_anywhere() {
    let (other, client) = (answers_well(), client_with(&options()));
    for status in [301, 302, 303, 307, 308] {
        for number in 0..locations("", &other).len() {
            let row = format!("{status}, location {number}");
            let from = Server::start({
                let locations = locations("http://127.0.0.1:1", &other);
                move |_| {
                    Reply::new(
                        status,
                        &[("Location", &locations[number]), ("Refresh", "0; url=/")],
                        b"",
                    )
                }
            });
            for credentials in [keys(), Credentials::Token("CanaryToken".into())] {
                let target = target(&from.origin, "https://iam", credentials);
                for (call, outcome) in each_call(&client, &target).await {
                    let error = outcome.unwrap_err();
                    assert_eq!(error.kind, CloudErrorKind::UnknownOutcome, "{row}, {call}: {error}");
                    assert!(
                        error.message.contains("redirects are not followed"),
                        "{row}, {call}: {error}"
                    );
                }
            }
            assert_eq!(from.seen().len(), 8, "{row}: each call once");
            // A sign-in carries a password.
            let elsewhere = answers_well();
            let iam = target(&elsewhere.origin, &from.origin, password());
            for (call, outcome) in each_call(&client, &iam).await {
                assert_eq!(outcome.unwrap_err().kind, CloudErrorKind::NotSent, "{row}, {call}");
            }
            assert_eq!(elsewhere.connections(), 0, "{row}");
        }
    }
    assert_eq!((other.connections(), other.seen().len()), (0, 0));
}

#[tokio::test]
async fn each_host_sees_only_the_credentials_that_are_for_it() {
    let mut world = World::new().await;
    let modelarts = Server::start({
        let app = world.stage.app.clone();
        move |_| Reply::json(200, &app_json(&[CODE]).replace(crate::wire::APP, &app))
    });
    let iam = Server::start(|_| Reply::new(201, &[("X-Subject-Token", "CanaryToken-1")], b"{}"));
    let other = answers_well();
    for (modelarts, iam) in [(&other, &other), (&modelarts, &iam)] {
        let pair = Endpoint {
            modelarts: modelarts.origin.clone(),
            iam: iam.origin.clone(),
        };
        world.make.settings.rules.endpoints.allowed.push(pair);
    }
    world.restart();
    world.stage.delete_secret(CREDENTIALS);
    let fields = [
        ("domainName", "account"),
        ("userName", "user"),
        ("password", PASSWORD),
        ("unused", SECRET_KEY),
    ];
    world.stage.create_secret(CREDENTIALS, &fields);
    world
        .stage
        .create_rotation(|spec| spec["endpoint"] = json!(modelarts.origin));
    world.run_for(SignedDuration::from_mins(2)).await;
    assert!(!modelarts.seen().is_empty() && iam.seen().len() == 1);
    assert_eq!((other.connections(), world.ledger().requests.len()), (0, 0));
    let (asked, signed_in) = (all_of(&modelarts.seen()), all_of(&iam.seen()));
    assert!(asked.contains("CanaryToken-1") && !asked.contains("Canary p"));
    assert!(signed_in.contains("Canary p") && !signed_in.contains("CanaryToken") && !signed_in.contains(CODE));
    assert!(
        !format!("{asked}{signed_in}").contains(SECRET_KEY),
        "what is in the Secret beside the credentials"
    );
}

#[tokio::test]
async fn a_slow_host_holds_a_connection_no_longer_than_it_may() {
    let server = Server::start(|_| {
        Reply::Write(Box::new(|stream| {
            use std::io::Read as _;
            stream.set_read_timeout(None)?;
            stream.read_to_end(&mut Vec::new()).map(drop)
        }))
    });
    let target = target(&server.origin, "https://iam", keys());
    for (call, outcome) in each_call(&client_with(&impatient()), &target).await {
        assert_eq!(outcome.unwrap_err().kind, CloudErrorKind::UnknownOutcome, "{call}");
    }
    assert_eq!(server.seen().len(), 4, "each call once");
}

#[test]
fn no_flag_and_no_variable_turns_the_check_of_certificates_off() {
    let command = Args::command();
    let names = command.get_arguments().flat_map(|arg| {
        let env = arg.get_env().map(|env| env.to_string_lossy().to_lowercase());
        arg.get_long().map(str::to_lowercase).into_iter().chain(env)
    });
    let names: Vec<String> = names.map(|name| name.replace('_', "-")).collect();
    let about_trust = |name: &&String| {
        [
            "insecure", "skip", "verify", "tls", "cert", "danger", "trust", "no-check",
        ]
        .iter()
        .any(|word| name.contains(word))
    };
    // It opens plain http to loopback; over https every certificate is checked all the same.
    let found: Vec<&String> = names.iter().filter(about_trust).collect();
    assert_eq!(found, ["allow-insecure-loopback", "appcode-allow-insecure-loopback"]);
}
