//! T8: what stands in a path. An id that is not one is refused before anybody is asked, and a code of any characters is
//! either one path segment, letter by letter, or told as one that no call can name.

use appcode_operator::api::ConditionType;
use appcode_operator::modelarts::AppCode;
use appcode_operator::remedy;
use cloud_simulator::Operation;
use jiff::SignedDuration;
use percent_encoding::percent_decode_str;
use pretty_assertions::assert_eq;
use serde_json::json;

use crate::support::World;
use crate::support::api_server::ROTATIONS;
use crate::support::judge::{leaks, readable};
use crate::support::stage::{NAME, NAMESPACE};
use crate::wire::server::Server;
use crate::wire::{answers_well, client_with, echo, keys, options, target};
use appcode_operator::modelarts::AppCodes as _;

/// Texts that mean something to a path, a header, a shell, a terminal or an eye.
const HOSTILE: [&str; 30] = [
    "",
    ".",
    "..",
    "../x",
    "x/../../y",
    "x/y",
    "/",
    "//evil.example/x",
    "%",
    "%2f",
    "%2e%2e",
    "%252e%252e",
    "%00",
    "x\\y",
    "x?y=1",
    "x#y",
    "x;y",
    "x&y",
    "x y",
    "x\ty",
    "x\ny",
    "x\r\nHost: evil.example\r\n\r\n",
    "x\0y",
    "x\u{7f}y",
    "\u{202e}x",
    "\u{feff}x",
    "\u{430}pp",        // a Cyrillic a
    "\u{ff0e}\u{ff0e}", // full-width dots
    "\u{2215}x",        // a division slash
    "$(id)`id`",
];

#[tokio::test]
async fn an_id_that_is_not_one_is_refused_before_anybody_is_asked_and_is_not_quoted() {
    let long = "a".repeat(129);
    let mut world = World::new().await;
    for field in ["projectId", "appId", "workspaceId"] {
        for with_credentials in [true, false] {
            for id in HOSTILE.into_iter().chain([long.as_str()]) {
                let row = format!("{field} = {id:?}");
                world.stage.api.delete(ROTATIONS, NAMESPACE, NAME);
                world.stage.create_rotation(|spec| {
                    spec[field] = json!(id);
                    if !with_credentials {
                        spec.as_object_mut().unwrap().remove("credentialsRef");
                    }
                });
                world.run_for(SignedDuration::from_secs(5)).await;
                assert_eq!(world.stalled().as_deref(), Some("InvalidSpec"), "{row}");
                let (_, _, message) = world.condition(ConditionType::Stalled);
                let is_word = id.bytes().all(|b| b.is_ascii_alphanumeric() || b.is_ascii_whitespace());
                assert!(
                    (is_word && id.len() < 9) || id.len() < 3 || !message.contains(id),
                    "{row}: {message}"
                );
                let prose = remedy::prose(&message);
                assert!(!prose.chars().any(char::is_control), "{row}: {message:?}");
                let edit = format!("kubectl edit acr {NAME} -n {NAMESPACE}");
                assert_eq!(remedy::commands(&message).collect::<Vec<_>>(), [edit.as_str()], "{row}");
            }
        }
    }
    assert_eq!(world.ledger().requests.len(), 0);
    world.assert_sound();
}

/// Codes that the cloud may list, and whether they can be reset.
fn codes() -> Vec<(String, bool)> {
    let tail = "k".repeat(40); // no other code of the suite has it
    let of = |text: &str, is_addressable| (format!("{text}{tail}"), is_addressable);
    let mut codes: Vec<_> = [
        "%",
        "%2f",
        "%2e%2e",
        "%252f",
        "%00",
        "..",
        ".",
        "#",
        "?",
        "?x=1&y",
        "#@",
        ";",
        "\\",
        "+",
        "=",
        "@:",
        "~-_",
        "$(id)`id`",
        "\"",
        "'",
        "<b>",
        "{\"app\":{}}",
        "!^()[]|,",
    ]
    .into_iter()
    .map(|text| of(text, true))
    .collect();
    codes.extend([of("/", false), of("a/../b", false), of("//evil.example/", false)]);
    codes.push(("x".repeat(180), true));
    codes.push(("%".repeat(180), true));
    codes
}

#[tokio::test]
async fn a_code_of_any_characters_is_reset_as_it_is_or_told_as_one_that_cannot_be() {
    for (code, is_addressable) in codes() {
        let mut world = World::with_codes(0).await;
        let (app, now) = (world.stage.app.clone(), world.stage.time.truth());
        let made = world.stage.cloud.with(|cloud| cloud.add_code(now, &app, Some(&code)));
        assert_eq!(made.as_deref(), Some(code.as_str()));
        world.stage.create_rotation(|_| ());
        world.run_to_rest().await;
        world.assert_ready();
        assert_eq!(world.code().as_ref(), Some(&code));
        world.stage.set_trigger("one");
        world.run_for(SignedDuration::from_mins(15)).await;
        world.assert_sound();
        assert_eq!(
            world.ledger().resets_applied(&app),
            usize::from(is_addressable),
            "{code}"
        );
        assert_eq!(
            world.live().contains(&code),
            !is_addressable,
            "{code}: that one and no other was replaced"
        );
        if is_addressable {
            world.assert_ready();
            assert_eq!(world.calls(Operation::Reset), 1, "{code}");
        } else {
            assert_eq!(world.stalled().as_deref(), Some("CodeNotAddressable"), "{code}");
        }
        assert_eq!(
            leaks(&world.stage, &readable(&world.stage)),
            Vec::<String>::new(),
            "{code}"
        );
    }
}

#[tokio::test]
async fn a_value_that_no_code_can_be_is_not_stored_and_stops_everything() {
    let own = "z".repeat(64);
    for value in [
        "é",
        "\u{430}bc",
        "a b",
        "a\nb",
        "a\r\nX: y",
        "a\0b",
        "\u{202e}abc",
        "****",
        "abc*def",
        &"x".repeat(513),
    ] {
        let mut world = World::with_codes(0).await;
        let (app, now) = (world.stage.app.clone(), world.stage.time.truth());
        world.stage.cloud.with(|cloud| {
            cloud.add_code(now, &app, Some(&own)).unwrap();
            cloud.add_code(now, &app, Some(value)).unwrap();
        });
        world.stage.create_rotation(|spec| spec["appCode"] = json!(own));
        world.run_for(SignedDuration::from_hours(2)).await;
        world.assert_sound();
        assert_eq!(world.stalled().as_deref(), Some("CodesMasked"), "{value:?}");
        assert_eq!((world.code(), world.mutations()), (None, 0), "{value:?}");
    }
}

#[tokio::test]
async fn on_the_wire_a_code_is_one_segment_between_the_segments_of_its_app() {
    let client = client_with(&options());
    for (code, is_addressable) in codes() {
        let server: Server = answers_well();
        let target = target(&server.origin, "https://iam", keys());
        let outcome = client
            .reset_code(&target, &AppCode::parse(code.as_str()).unwrap(), &echo())
            .await;
        assert_eq!(outcome.is_ok(), is_addressable, "{code}");
        if !is_addressable {
            assert_eq!(server.connections(), 0, "{code}");
            continue;
        }
        let seen = server.only();
        let segments: Vec<&str> = seen.target.split('/').collect();
        let [_, "v1", project, "app-auth", "apps", app, "app-code", segment] = segments.as_slice() else {
            panic!("{code}: {}", seen.target)
        };
        assert_eq!(
            (*project, *app),
            (target.app.project_id.as_str(), target.app.app_id.as_str())
        );
        assert_eq!(percent_decode_str(segment).decode_utf8().unwrap(), code);
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~%".contains(&b);
        assert!(segment.bytes().all(is_plain), "{segment}");
        assert_eq!(
            seen.headers
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case("host"))
                .count(),
            1
        );
    }
}
