//! T9, T10: a cloud that answers anything at all, when it is asked what an app is like, when it has just replaced, added or
//! deleted a code, and when somebody signs in. Nothing of it is stored, shown or logged, nothing is done twice, other resources go on, and once the cloud is
//! honest again all comes right.

use std::io::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use appcode_operator::api::ConditionType;
use appcode_operator::args::LogFormat;
use appcode_operator::endpoint::Endpoint;
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::logs::Kept;
use crate::support::World;
use crate::support::judge::readable;
use crate::support::stage::NAME;
use crate::wire::server::{Reply, Seen, Server};

const APP: &str = "app-of-the-liar";
const OTHER: &str = "other";
/// The Secret with a password, which is traded for tokens.
pub(super) const PASSWORD: &str = "password";
const OLD: &str = "old-canary-0000000000000000000000000000000000000000000000000000-1";
const TOKEN: &str = "token-canary-000000000000000000000000000000000000000000000000000-3";
const NEW: &str = "new-canary-0000000000000000000000000000000000000000000000000000-2";
/// Stands in lies where it could be stored, shown or logged.
const LIE: &str = "lie-canary";

/// What an honest cloud would answer now.
pub(super) struct Truth(Value);

impl Truth {
    fn with(&self, change: impl FnOnce(&mut Value)) -> String {
        let mut body = json!({ "app": self.0 });
        change(&mut body["app"]);
        body.to_string()
    }

    fn text(&self) -> String {
        self.with(|_| ())
    }
}

pub(super) type Lie = fn(&Truth) -> Reply;

fn ok(body: &str) -> Reply {
    Reply::json(200, body)
}

fn slowly(head: &'static str, pause: Duration, pieces: usize, piece: &'static [u8]) -> Reply {
    Reply::Write(Box::new(move |stream| {
        stream.write_all(head.as_bytes())?;
        for _ in 0..pieces {
            stream.write_all(piece)?;
            std::thread::sleep(pause);
        }
        Ok(())
    }))
}

/// Answers that tell nothing.
const USELESS: [(&str, Lie); 26] = [
    ("empty", |_| ok("")),
    ("a page", |_| ok("<html><title>lie-canary</title></html>")),
    ("null", |_| ok("null")),
    ("a number", |_| ok("5")),
    ("an empty object", |_| ok("{}")),
    ("an error with status 200", |_| {
        ok(r#"{"error_code":"lie-canary","error_msg":"lie-canary"}"#)
    }),
    ("no app", |_| ok(r#"{"app":null}"#)),
    ("an app that is a list", |truth| {
        ok(&json!({ "app": [truth.0] }).to_string())
    }),
    ("an app that is text", |truth| {
        ok(&json!({ "app": truth.0.to_string() }).to_string())
    }),
    ("codes that are text", |truth| {
        ok(&truth.with(|app| app["app_codes"] = json!(LIE)))
    }),
    ("codes that are an object", |truth| {
        ok(&truth.with(|app| app["app_codes"] = json!({ "0": LIE })))
    }),
    ("half of it", |truth| ok(&truth.text()[..truth.text().len() / 2])),
    ("a byte order mark", |truth| ok(&format!("\u{feff}{}", truth.text()))),
    ("something behind it", |truth| {
        ok(&format!("{}{}", truth.text(), truth.text()))
    }),
    ("no UTF-8", |truth| {
        Reply::new(200, &[], &[truth.text().as_bytes(), b"\xff"].concat())
    }),
    ("two apps under one key", |truth| {
        ok(&truth
            .text()
            .replacen('{', &format!("{{\"app\":{{\"app_codes\":[{LIE:?}]}},"), 1))
    }),
    ("two lists under one key", |truth| {
        ok(&truth
            .text()
            .replacen("\"app_codes\":", &format!("\"app_codes\":[{LIE:?}],\"app_codes\":"), 1))
    }),
    ("another app's", |truth| {
        ok(&truth.with(|app| app["app_id"] = json!("another-app")))
    }),
    ("another app's, by case", |truth| {
        ok(&truth.with(|app| app["app_id"] = json!(APP.to_uppercase())))
    }),
    ("nested 30,000 deep", |_| {
        ok(&format!("{{\"app\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000)))
    }),
    ("huge", |truth| {
        ok(&format!("{}{}", truth.text(), " ".repeat(10_000_000)))
    }),
    ("huge by announcement", |_| {
        Reply::Last(b"HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n{".to_vec())
    }),
    ("endless", |_| {
        slowly(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            Duration::ZERO,
            10_000,
            b"a\r\n[[[[[[[[[[\r\n",
        )
    }),
    ("dripping", |_| {
        slowly(
            "HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n",
            Duration::from_millis(40),
            100,
            b" ",
        )
    }),
    ("compressed", |_| {
        Reply::new(
            200,
            &[("Content-Encoding", "gzip")],
            b"\x1f\x8b\x08\0\0\0\0\0\0\x03lie-canary",
        )
    }),
    ("ten thousand headers", |_| {
        let lines: Vec<String> = (0..10_000)
            .map(|number| format!("X-{number}: lie-canary\r\n"))
            .collect();
        Reply::Last(format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{}\r\n", lines.concat()).into_bytes())
    }),
];

/// Answers whose list of codes is not the whole list.
const MASKED: [(&str, Lie); 8] = [
    ("masked", |truth| {
        ok(&truth.with(|app| app["app_codes"] = json!(["old******-1"])))
    }),
    ("one of two masked", |truth| {
        ok(&truth.with(|app| app["app_codes"].as_array_mut().unwrap().push(json!("lie****"))))
    }),
    ("no list", |truth| ok(&truth.with(|app| app["app_codes"] = Value::Null))),
    ("codes that are numbers", |truth| {
        ok(&truth.with(|app| app["app_codes"] = json!([5, 1.5, null, true])))
    }),
    ("codes nested 20,000 deep", |truth| {
        let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
        ok(&truth
            .with(|app| app["app_codes"] = json!("DEEP"))
            .replace("\"DEEP\"", &deep))
    }),
    ("codes of two lines", |truth| {
        ok(&truth.with(|app| app["app_codes"] = json!(["lie-canary\r\nX: y"])))
    }),
    ("a code of 513 characters", |truth| {
        ok(&truth.with(|app| app["app_codes"] = json!(["x".repeat(513)])))
    }),
    ("a code in other letters", |truth| {
        ok(&truth.with(|app| app["app_codes"] = json!(["\u{43e}ld-canary"])))
    }),
];

/// What is asked of the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    SignIn,
    Reading,
    Reset,
    Addition,
    Deletion,
}

impl Asked {
    fn of(seen: &Seen) -> Self {
        match seen.method.as_str() {
            "POST" if seen.path() == "/v3/auth/tokens" => Self::SignIn,
            "POST" => Self::Addition,
            "PUT" => Self::Reset,
            "DELETE" => Self::Deletion,
            _ => Self::Reading,
        }
    }
}

/// A cloud with one app. Whatever is answered, changes take effect.
pub(super) struct Liar {
    codes: Vec<String>,
    asked: Vec<Asked>,
    /// What is lied to.
    pub(super) lies: Option<(&'static [Asked], Lie)>,
}

impl Default for Liar {
    fn default() -> Self {
        Self {
            codes: vec![OLD.to_owned()],
            asked: Vec::new(),
            lies: None,
        }
    }
}

impl Liar {
    fn start(this: &Arc<Mutex<Self>>) -> Server {
        let this = Arc::clone(this);
        Server::start(move |seen| this.lock().unwrap().answer(seen))
    }

    fn answer(&mut self, seen: &Seen) -> Reply {
        let asked = Asked::of(seen);
        self.asked.push(asked);
        match asked {
            Asked::Reset => self.codes = vec![self.new_code()],
            Asked::Addition => self.codes.push(self.new_code()),
            Asked::Deletion => self.codes.retain(|code| !seen.path().ends_with(code.as_str())),
            Asked::SignIn | Asked::Reading => {}
        }
        let truth = Truth(json!({
            "app_id": APP, "app_name": "liar", "app_type": "APIG", "app_codes": self.codes,
        }));
        match self.lies {
            Some((lied_to, lie)) if lied_to.contains(&asked) => lie(&truth),
            _ if asked == Asked::SignIn => signed_in(&[TOKEN], "2099-01-01T00:00:00.000000Z"),
            _ => ok(&truth.text()),
        }
    }

    /// [`NEW`] at first.
    fn new_code(&self) -> String {
        let earlier = self.count(Asked::Reset) + self.count(Asked::Addition) - 1;
        format!("{NEW}{}", "x".repeat(earlier))
    }

    pub(super) fn count(&self, wanted: Asked) -> usize {
        self.asked.iter().filter(|asked| **asked == wanted).count()
    }
}

fn signed_in(tokens: &[&str], expires_at: &str) -> Reply {
    let headers: Vec<_> = tokens.iter().map(|token| ("X-Subject-Token", *token)).collect();
    let body = json!({ "token": { "expires_at": expires_at, "user": { "id": "u1" } } });
    Reply::new(201, &headers, body.to_string().as_bytes())
}

/// A resource at rest whose cloud can be made to lie, and one of another cloud beside it.
async fn world() -> (World, Arc<Mutex<Liar>>) {
    world_with(|_| ()).await
}

/// The same with a spec that `change` has changed.
pub(super) async fn world_with(change: impl FnOnce(&mut Value)) -> (World, Arc<Mutex<Liar>>) {
    let liar = Arc::default();
    let origin = Liar::start(&liar).origin;
    let mut world = World::new().await;
    world.stage.judge.go_blind();
    let pair = Endpoint {
        modelarts: origin.clone(),
        iam: origin.clone(),
    };
    world.make.settings.rules.endpoints.allowed.push(pair);
    world.make.http.connect_timeout = Duration::from_secs(1);
    world.make.http.request_deadline = Duration::from_millis(1_500);
    world.restart();
    let password = [
        ("domainName", "domain"),
        ("userName", "user"),
        ("password", "password-canary-0000"),
    ];
    world.stage.create_secret(PASSWORD, &password);
    world.stage.create_rotation(|spec| {
        spec["endpoint"] = json!(origin);
        spec["appId"] = json!(APP);
        change(spec);
    });
    world.stage.create_rotation_named(OTHER, |_| ());
    world.run_to_rest().await;
    assert!(world.is_ready() && world.status_of(OTHER).is_true(ConditionType::Ready));
    assert_eq!(world.code().as_deref(), Some(OLD));
    (world, liar)
}

fn rotate(world: &World, name: &str, trigger: &str) {
    let set = |object: &mut Value| object["spec"]["rotationTrigger"] = json!(trigger);
    assert!(world.stage.edit_rotation(name, set));
}

/// Nothing of a lie, and no code, stands anywhere but in the Secret's data.
fn assert_nothing_told(world: &World, log: &Kept, row: &str) {
    let log = log.text();
    assert!(log.contains("reconcile"), "{row}: it was logged at all");
    for (place, text) in [("what people may read", readable(&world.stage)), ("the log", log)] {
        for canary in [LIE, "canary-0000"] {
            assert!(!text.contains(canary), "{row}: {canary} is in {place}");
        }
    }
    let violations = [world.stage.judge.violations(), world.stage.api.violations()].concat();
    assert_eq!(violations, Vec::<String>::new(), "{row}");
}

#[tokio::test]
async fn an_answer_to_a_reset_that_tells_nothing_costs_no_code_and_no_second_reset() {
    for (row, lie) in USELESS.into_iter().chain(MASKED) {
        let log = Kept::default();
        let guard = log.start(LogFormat::Json);
        let (mut world, liar) = world().await;
        liar.lock().unwrap().lies = Some((&[Asked::Reset], lie));
        rotate(&world, NAME, "one");
        rotate(&world, OTHER, "one");
        world.run_for(SignedDuration::from_mins(15)).await;
        drop(guard);
        assert!(world.is_ready(), "{row}: {:?}", world.condition(ConditionType::Ready));
        assert_eq!(
            (world.code().as_deref(), liar.lock().unwrap().count(Asked::Reset)),
            (Some(NEW), 1),
            "{row}"
        );
        assert_eq!(
            (world.mutations(), world.status_of(OTHER).rotation_number),
            (1, Some(1)),
            "{row}: the other one"
        );
        assert_nothing_told(&world, &log, row);
    }
}

#[tokio::test]
async fn an_answer_to_a_reading_that_tells_nothing_changes_nothing_until_it_is_an_honest_one() {
    let rows = USELESS.map(|(row, lie)| (row, lie, "Retrying")).into_iter();
    for (row, lie, reason) in rows.chain(MASKED.map(|(row, lie)| (row, lie, "CodesMasked"))) {
        let log = Kept::default();
        let guard = log.start(LogFormat::Text);
        let (mut world, liar) = world().await;
        liar.lock().unwrap().lies = Some((&[Asked::Reading], lie));
        rotate(&world, NAME, "one");
        rotate(&world, OTHER, "one");
        world.run_for(SignedDuration::from_mins(6)).await;
        assert_eq!(
            (world.code().as_deref(), liar.lock().unwrap().count(Asked::Reset)),
            (Some(OLD), 0),
            "{row}"
        );
        let told = [ConditionType::Stalled, ConditionType::Reconciling].map(|kind| world.condition(kind));
        assert!(told.iter().any(|(_, why, _)| why == reason), "{row}: {told:?}");
        assert_eq!(world.status_of(OTHER).rotation_number, Some(1), "{row}: the other one");

        liar.lock().unwrap().lies = None;
        world.run_for(SignedDuration::from_mins(90)).await;
        drop(guard);
        assert!(world.is_ready(), "{row}: {:?}", world.condition(ConditionType::Ready));
        assert_eq!(
            (world.code().as_deref(), liar.lock().unwrap().count(Asked::Reset)),
            (Some(NEW), 1),
            "{row}"
        );
        assert_nothing_told(&world, &log, row);
    }
}

#[tokio::test]
async fn several_new_codes_in_an_answer_are_not_guessed_at() {
    let (mut world, liar) = world().await;
    let several: Lie = |truth| ok(&truth.with(|app| app["app_codes"] = json!([NEW, "lie-canary-1", "lie-canary-2"])));
    liar.lock().unwrap().lies = Some((&[Asked::Reset], several));
    rotate(&world, NAME, "one");
    world.run_for(SignedDuration::from_secs(2)).await;
    assert_ne!(world.code().as_deref(), Some("lie-canary-1"));
    world.run_for(SignedDuration::from_hours(2)).await;
    assert_eq!(
        (world.code().as_deref(), liar.lock().unwrap().count(Asked::Reset)),
        (Some(NEW), 1)
    );
    assert!(world.is_ready(), "a reading tells which it is");
}

#[tokio::test]
async fn an_answer_to_an_addition_or_a_deletion_that_tells_nothing_costs_no_code_and_is_not_asked_for_again() {
    for (row, lie) in USELESS.into_iter().chain(MASKED) {
        let log = Kept::default();
        let guard = log.start(LogFormat::Json);
        let (mut world, liar) = world_with(|spec| {
            spec["strategy"] = json!("Overlap");
            spec["overlap"] = json!({ "gracePeriod": "2m" });
        })
        .await;
        liar.lock().unwrap().lies = Some((&[Asked::Addition, Asked::Deletion], lie));
        rotate(&world, NAME, "one");
        rotate(&world, OTHER, "one");
        world.run_for(SignedDuration::from_mins(1)).await;
        assert_eq!(liar.lock().unwrap().codes, [OLD, NEW], "{row}: both work at first");
        world.run_for(SignedDuration::from_mins(30)).await;
        drop(guard);
        assert!(world.is_ready(), "{row}: {:?}", world.condition(ConditionType::Ready));
        assert_eq!(world.code().as_deref(), Some(NEW), "{row}");
        let liar = liar.lock().unwrap();
        let calls = [Asked::Addition, Asked::Deletion].map(|asked| liar.count(asked));
        assert_eq!((&liar.codes[..], calls), (&[NEW.to_owned()][..], [1, 1]), "{row}");
        assert_eq!(
            (world.mutations(), world.status_of(OTHER).rotation_number),
            (1, Some(1)),
            "{row}: the other one"
        );
        assert_nothing_told(&world, &log, row);
    }
}

/// A world whose operator has to sign in.
async fn signing_in() -> (World, Arc<Mutex<Liar>>) {
    let (mut world, liar) = world_with(|spec| spec["credentialsRef"] = json!({ "name": PASSWORD })).await;
    assert_eq!(
        liar.lock().unwrap().count(Asked::SignIn),
        1,
        "one token serves all calls"
    );
    world.restart(); // a process that has no token yet
    (world, liar)
}

#[tokio::test]
async fn an_answer_to_a_sign_in_that_holds_no_token_changes_nothing_until_there_is_one() {
    let rows: [(&str, Lie); 3] = [
        ("an empty token", |_| signed_in(&[""], "2099-01-01T00:00:00Z")),
        ("a token in the body", |_| {
            ok(r#"{"token":{"id":"lie-canary","expires_at":"2099-01-01T00:00:00Z"}}"#)
        }),
        ("a token that no header can hold", |_| {
            Reply::Last(
                b"HTTP/1.1 201 Created\r\nX-Subject-Token: lie-\x01canary\r\nContent-Length: 2\r\n\r\n{}".to_vec(),
            )
        }),
    ];
    for (row, lie) in USELESS.into_iter().chain(rows) {
        let log = Kept::default();
        let guard = log.start(LogFormat::Json);
        let (mut world, liar) = signing_in().await;
        liar.lock().unwrap().lies = Some((&[Asked::SignIn], lie));
        let before = liar.lock().unwrap().asked.len();
        rotate(&world, NAME, "one");
        rotate(&world, OTHER, "one");
        world.run_for(SignedDuration::from_mins(6)).await;
        let (_, why, _) = world.condition(ConditionType::Reconciling);
        assert_eq!(
            (why.as_str(), world.code().as_deref()),
            ("Retrying", Some(OLD)),
            "{row}"
        );
        let asked = liar.lock().unwrap().asked[before..].to_vec();
        assert!(asked.iter().all(|asked| *asked == Asked::SignIn), "{row}: {asked:?}");
        assert!((1..=20).contains(&asked.len()), "{row}: {} sign-ins", asked.len());
        assert_eq!(world.status_of(OTHER).rotation_number, Some(1), "{row}: the other one");

        liar.lock().unwrap().lies = None;
        world.run_for(SignedDuration::from_mins(90)).await;
        drop(guard);
        assert!(world.is_ready(), "{row}: {:?}", world.condition(ConditionType::Ready));
        assert_eq!(
            (world.code().as_deref(), liar.lock().unwrap().count(Asked::Reset)),
            (Some(NEW), 1),
            "{row}"
        );
        assert_nothing_told(&world, &log, row);
    }
}

#[tokio::test]
async fn a_token_in_an_odd_answer_is_used_and_not_asked_for_before_every_call() {
    let rows: [(&str, Lie); 6] = [
        ("expired for long", |_| signed_in(&[TOKEN], "1970-01-01T00:00:00Z")),
        ("good for ever", |_| signed_in(&[TOKEN], "9999-12-31T23:59:59Z")),
        ("at no time", |_| signed_in(&[TOKEN], "lie-canary")),
        ("two tokens", |_| signed_in(&[TOKEN, TOKEN], "2099-01-01T00:00:00Z")),
        ("no body", |_| Reply::new(201, &[("X-Subject-Token", TOKEN)], b"")),
        ("a huge body", |_| {
            Reply::new(201, &[("X-Subject-Token", TOKEN)], &vec![b' '; 10_000_000])
        }),
    ];
    for (row, lie) in rows {
        let log = Kept::default();
        let guard = log.start(LogFormat::Json);
        let (mut world, liar) = signing_in().await;
        liar.lock().unwrap().lies = Some((&[Asked::SignIn], lie));
        rotate(&world, NAME, "one");
        world.run_for(SignedDuration::from_mins(15)).await;
        drop(guard);
        assert!(world.is_ready(), "{row}: {:?}", world.condition(ConditionType::Ready));
        let liar = liar.lock().unwrap();
        assert_eq!(
            (world.code().as_deref(), liar.count(Asked::Reset)),
            (Some(NEW), 1),
            "{row}"
        );
        let sign_ins = liar.count(Asked::SignIn);
        assert!((2..=2 + 15).contains(&sign_ins), "{row}: {sign_ins} sign-ins");
        assert_nothing_told(&world, &log, row);
    }
}
