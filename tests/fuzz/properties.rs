//! What must hold for every sequence of bytes, whoever sent them. A function that finds that it does not, panics.
//!
//! These are the properties of the fuzz targets in `fuzz/`, which include this file; `main.rs` beside it tries them
//! with random cases on any toolchain.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use appcode_operator::api::{SecretTemplate, TemplateText, VerificationMethod};
use appcode_operator::endpoint::{Endpoint, EndpointRules};
use appcode_operator::ids::{AppId, AppIdentity, Fingerprint, ProjectId, RotationId, WorkspaceId};
use appcode_operator::intent::{Call, Intent, IntentError, Reading};
use appcode_operator::modelarts::{AppCode, Caller, Credentials, Target, scrub, wire};
use appcode_operator::schedule::{Cron, zone};
use appcode_operator::secret::{Asker, First, Record, SecretView, new_secret, view};
use appcode_operator::template::{Layout, Values};
use appcode_operator::validate::{Problem, Rules, Validated, validate};
use appcode_operator::verification::{
    DEFAULT_STATUS, DEFAULT_TIMEOUT, Verification, VerificationHost, VerificationHosts,
};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::Url;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

const ALLOWED: &str = "https://modelarts.example.com=https://iam.example.com:8443";

/// The app that answers are about.
fn target(project: ProjectId, app: AppId) -> Target {
    let endpoint = Endpoint::parse_pair(ALLOWED).unwrap();
    Target {
        app: AppIdentity {
            endpoint: endpoint.modelarts.clone(),
            project_id: project,
            app_id: app,
        },
        endpoint,
        workspace: WorkspaceId::parse("0").unwrap(),
        caller: Caller {
            source: "ns/credentials".into(),
            version: "1".into(),
            credentials: Credentials::Token("token".into()),
        },
    }
}

fn app() -> AppIdentity {
    target(ProjectId::parse("project").unwrap(), AppId::parse("app").unwrap()).app
}

/// `text` in `count` parts, cut at line ends; missing ones are empty.
fn parts<const N: usize>(text: &str) -> [&str; N] {
    let mut rest = text.splitn(N, '\n');
    std::array::from_fn(|_| rest.next().unwrap_or_default())
}

/// What a message says besides numbers. A refusal says one of few things, whatever was refused: so it quotes nothing. To
/// look for the text in the message would not do, since a fuzzer soon finds the message's own words.
fn wording(message: &str) -> String {
    message.replace(|char: char| char.is_ascii_digit(), "")
}

/// Whether `text` can be found in another text without meaning anything.
fn is_telling(text: &str) -> bool {
    text.len() >= 8
}

/// An answer: each code that is read was listed, once, as text; the list counts as whole only if all of it was read; and
/// nothing that is shown of an app or of an error is one of the codes.
pub fn answer(bytes: &[u8]) {
    let target = target(ProjectId::parse("project").unwrap(), AppId::parse("app").unwrap());
    assert!(wire::parse_sign_in(bytes).life <= Duration::from_secs(24 * 60 * 60));
    let Ok(read) = wire::parse_app(bytes, &target) else {
        return;
    };
    let codes: Vec<&str> = read.codes.iter().map(AppCode::expose).collect();
    for (number, code) in codes.iter().enumerate() {
        assert!(!codes[..number].contains(code), "read twice");
        assert!(AppCode::parse(*code).is_ok() && !code.contains('*'));
    }
    assert!(
        !format!("{:?}", read.codes).contains(|char: char| char.is_ascii_digit()),
        "shown"
    );
    // A second parser, which takes less: it gives up at fields that are nested too deep, even where nobody asks for them.
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let said = &value["app"];
    assert!(said.is_object());
    assert!(!said["app_id"].is_string() || said["app_id"] == "app", "another app's");
    assert!(!said["app_id"].is_i64(), "another app's");
    let listed = said["app_codes"].as_array();
    assert!(listed.is_some() || read.masked, "no list, but whole");
    let listed: Vec<&str> = listed
        .into_iter()
        .flatten()
        .map(|code| code.as_str().unwrap_or_default())
        .collect();
    assert!(codes.iter().all(|code| listed.contains(code)), "not listed");
    assert_eq!(
        read.masked || said["app_codes"].is_null(),
        said["app_codes"].is_null() || listed.iter().any(|code| !codes.contains(code))
    );
    assert_eq!(read.name.as_deref(), said["app_name"].as_str());
    assert_eq!(read.owner.as_deref(), said["user_id"].as_str());
}

/// How a server may spell a secret that it says back.
fn spelled(secret: &str, how: u8) -> String {
    let encoded = || utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
    match how % 6 {
        0 => secret.to_owned(),
        1 => encoded(),
        2 => lower_escapes(&encoded()),
        3 => utf8_percent_encode(&encoded(), NON_ALPHANUMERIC).to_string(),
        4 => json!(secret).to_string(),
        _ => json!({ "message": secret }).to_string().replace('/', "\\/"),
    }
}

/// `%2f` where `%2F` stands; letters that are no part of an escape stay as they are.
fn lower_escapes(encoded: &str) -> String {
    let mut pieces = encoded.split('%');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (digits, rest) = piece.split_at(2);
        text = format!("{text}%{}{rest}", digits.to_ascii_lowercase());
    }
    text
}

/// An error's text: a known secret is gone however it was spelled, an unknown code too, and what is left is short, one
/// line, and safe to show.
pub fn scrubbed(bytes: &[u8]) {
    let [how, more @ ..] = bytes else { return };
    let text = String::from_utf8_lossy(more);
    let [secret, before, after] = parts(&text);
    // White space and hidden characters are made one space before anything else, so no secret of ours holds them.
    let is_kept = |char: &char| !char.is_whitespace() && !char.is_control() && *char != '…' && is_visible(*char);
    let secret: String = secret.chars().filter(is_kept).collect();
    let spelling = spelled(&secret, *how);
    for text in [
        format!("{before}{spelling}{after}"),
        format!("{after} {spelling} {before} {secret}"),
    ] {
        let out = scrub(&text, &[&secret, ""]);
        assert!(secret.is_empty() || !out.contains(&secret), "{out:?} holds {secret:?}");
        assert!(
            !is_telling(&secret) || !out.contains(&spelling),
            "{out:?} holds {spelling:?}"
        );
        assert_fit_to_show(&out);
    }
    let unknown: String = secret.chars().filter(char::is_ascii_alphanumeric).collect();
    let out = scrub(&format!("{before} {unknown} {after}"), &[]);
    assert!(unknown.len() < 32 || !out.contains(&unknown), "{out:?} holds a code");
    assert_fit_to_show(&out);
}

fn is_visible(char: char) -> bool {
    !matches!(char, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn assert_fit_to_show(text: &str) {
    assert!(text.chars().count() <= 300);
    assert!(
        text.chars().all(|char| !char.is_control() && is_visible(char)),
        "{text:?}"
    );
    assert!(!text.contains("://"), "{text:?}");
}

/// A URL: what is accepted as an id or a code stands in the path as one segment each, reads back letter by letter and
/// leaves the rest of the URL alone; what is accepted as an endpoint, or as a place to try a code at, is an
/// allowed one in its one spelling.
pub fn url(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let [project, app_id, code, endpoint] = parts(&text);
    // A refusal says the rule and nothing of the text, so it is the same for every text.
    let project =
        ProjectId::parse(project).inspect_err(|bad| assert_eq!(Some(bad), ProjectId::parse("").err().as_ref()));
    let app_id = AppId::parse(app_id).inspect_err(|bad| assert_eq!(Some(bad), AppId::parse("").err().as_ref()));
    let target = target(
        project.unwrap_or_else(|_| ProjectId::parse("project").unwrap()),
        app_id.unwrap_or_else(|_| AppId::parse("app").unwrap()),
    );
    match AppCode::parse(code) {
        Ok(code) => assert_one_segment(&target, &code),
        Err(bad) => assert_eq!(Some(bad), AppCode::parse("").err()),
    }
    let rules = EndpointRules {
        allowed: vec![Endpoint::parse_pair(ALLOWED).unwrap()],
        allow_insecure_loopback: true,
    };
    match rules.check(endpoint) {
        Ok(found) => assert_eq!(Some(&found), rules.allowed.first()),
        Err(error) => {
            let refused = ["", "http://other.example", "https://other.example"].map(|text| rules.check(text));
            assert!(refused.contains(&Err(error)), "it says something else of this text");
        }
    }
    assert_verified_where_allowed(endpoint);
    if let Ok(found) = Endpoint::for_region(endpoint) {
        for origin in [&found.modelarts, &found.iam] {
            let host = Url::parse(origin).unwrap().host_str().unwrap().to_owned();
            assert_eq!(origin, &format!("https://{host}"));
            assert!(
                [".com", ".cn", ".eu"]
                    .iter()
                    .any(|end| host.ends_with(&format!(".{endpoint}.myhuaweicloud{end}")))
            );
        }
    }
    if let Ok(pair) = Endpoint::parse_pair(endpoint) {
        for origin in [&pair.modelarts, &pair.iam] {
            let url = Url::parse(origin).unwrap();
            assert_eq!(url.as_str().trim_end_matches('/'), origin);
            assert!(url.username().is_empty() && url.password().is_none() && url.path() == "/");
        }
    }
}

/// A URL at which a code may be tried is sent as it is written, to the one host that is allowed.
fn assert_verified_where_allowed(text: &str) {
    let hosts = VerificationHosts {
        allowed: vec![VerificationHost::parse("modelarts.example.com").unwrap()],
        allow_insecure_loopback: true,
    };
    let method = VerificationMethod::Get;
    let check = |text| Verification::check(text, method, DEFAULT_STATUS, DEFAULT_TIMEOUT, &hosts);
    match check(text) {
        Ok(found) => {
            assert_eq!(format!("{:?}", found.url), "ProbeUrl(https://modelarts.example.com/…)");
            let url = Url::parse(text).unwrap();
            let is_plain = url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
            assert!(is_plain && url.host_str() == Some("modelarts.example.com"));
            assert_eq!(url.port_or_known_default(), Some(443));
        }
        Err(errors) => {
            let bad = [
                "",
                "http://other.example",
                "https://other.example#",
                "https://other.example",
            ];
            let mut refused = bad.iter().filter_map(|text| check(text).err());
            assert!(refused.any(|it| it == errors), "it says something else of this text");
        }
    }
}

fn assert_one_segment(target: &Target, code: &AppCode) {
    let path = wire::code_path(target, code);
    let (project, app_id) = (target.app.project_id.as_str(), target.app.app_id.as_str());
    let expected = ["", "v1", project, "app-auth", "apps", app_id, "app-code", code.expose()];
    let decode = |segment: &str| percent_decode_str(segment).decode_utf8().unwrap().into_owned();
    assert_eq!(path.split('/').map(decode).collect::<Vec<_>>(), expected);
    assert!(!path.contains(['?', '#', '\\', ' ']));
    let url = Url::parse(&format!("{}{path}", target.endpoint.modelarts)).unwrap();
    let is_alone = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    assert!(is_alone && url.host_str() == Some("modelarts.example.com"));
    if code.is_addressable() {
        assert_eq!(url.path(), path, "a URL parser reads another path");
    }
}

/// An intent: what is read is written and read again as the same, an unreadable one is refused without being quoted, and
/// no reading of the app makes one choose a code that is not listed.
pub fn intent(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(print) = Fingerprint::parse(&text) {
        assert_eq!(print.to_string(), text);
        assert!(print.is_named_by(&text) && print.is_named_by(&print.short()));
    }
    let intent = match Intent::parse(&text) {
        Ok(intent) => intent,
        Err(error) => {
            let own = [IntentError::Malformed, IntentError::Version(2)].map(|error| wording(&error.to_string()));
            return assert!(own.contains(&wording(&error.to_string())), "{error}");
        }
    };
    assert_eq!(Intent::parse(&intent.to_text()).as_ref(), Ok(&intent));
    assert!(RotationId::parse(intent.rotation_id.as_str()).is_ok());
    let mut listed: Vec<Fingerprint> = intent.known.iter().copied().chain(intent.base).take(4).collect();
    listed.push(Fingerprint::of(&app().app_id, "new"));
    let reading = Reading {
        listed: &listed,
        updated_at: intent.updated_at,
        claimed: &[],
    };
    if let appcode_operator::intent::Verdict::Ours(code) = intent.resolve(reading) {
        assert!(listed.contains(&code) && !intent.known.contains(&code));
    }
    let next = intent.next_attempt(Call::Add, reading, Timestamp::MAX);
    assert!(next.attempt >= intent.attempt);
    assert!(
        next.new_codes(reading).is_empty(),
        "what was there before is taken for new"
    );
    assert_eq!(Intent::parse(&next.to_text()), Ok(next));
}

/// Annotations of a Secret that have to be of a form.
const READ_ANNOTATIONS: [&str; 8] = [
    "app",
    "rotation-number",
    "fingerprint",
    "previous-fingerprint",
    "seed-fingerprint",
    "adopted-fingerprint",
    "rotated-at",
    "recent-rotations",
];

/// The annotations of a Secret, one `key: value` a line, and its code in the first line: a Secret counts as ours only for
/// its own app, its record is written and read again as the same, and one that cannot be read is not quoted. The same
/// lines as fields of credentials show nothing of themselves.
pub fn record(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split('\n');
    let code = lines.next().unwrap_or_default();
    let fields: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    if let Some(credentials) = Credentials::from_fields(|name| fields.get(name).cloned()) {
        let shown = format!("{credentials:?}");
        assert!(shown.len() < 40 && shown.ends_with("([redacted])"), "{shown}");
    }
    let app = app();
    let asker = Asker::of("ns/name", &app, "appCode");
    let mut secret: Secret = serde_json::from_value(json!({
        "metadata": { "labels": { "app.kubernetes.io/managed-by": "appcode-operator" }, "resourceVersion": "1" },
    }))
    .unwrap();
    secret.data = Some(BTreeMap::from([(
        "appCode".to_owned(),
        k8s_openapi::ByteString(code.as_bytes().to_vec()),
    )]));
    secret.metadata.annotations = Some(fields.clone());
    match view(Some(&secret), asker) {
        SecretView::Ours(ours) => {
            assert_eq!(ours.record.app, app);
            assert_eq!(fields.get("appcode.dev/resource").map(String::as_str), Some("ns/name"));
            assert!((0..=1 << 60).contains(&ours.record.highest_number()));
            let written = new_secret("ns", "name", "ns/name", &ours.record, First::default());
            assert!(written.data.is_none());
            let SecretView::Ours(again) = view(Some(&written), asker) else {
                panic!("what we write is not ours")
            };
            let unrendered = Record {
                rendered: None,
                ..ours.record.clone()
            };
            assert_eq!(again.record, unrendered);
            assert!(!is_telling(code) || !format!("{ours:?}").contains(&format!("code: Some({code:?})")));
        }
        SecretView::Unreadable(why) => {
            let of_intent = [IntentError::Malformed, IntentError::Version(2)].map(|error| wording(&error.to_string()));
            let own =
                READ_ANNOTATIONS.map(|name| format!("annotation appcode.dev/{name} on the Secret cannot be read"));
            assert!(of_intent.contains(&wording(&why)) || own.contains(&why), "{why}");
        }
        SecretView::Foreign { .. } => {}
        other => panic!("{other:?} of a Secret that is there"),
    }
}

/// A schedule, one field a line: cron, time zone, interval, jitter, cron and duration of a window, and an instant. What is
/// accepted fires after that instant, ever later, at least the minimum interval apart on a calendar without jumps; what is
/// not is refused with the field's name and without its text.
pub fn schedule(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let [cron, zone_name, _, _, _, _, instant] = parts(&text);
    let since = instant.parse().unwrap_or(Timestamp::UNIX_EPOCH);
    for zone in [Some(TimeZone::UTC), zone(zone_name)].into_iter().flatten() {
        if let Some(parsed) = Cron::parse(cron, zone) {
            assert_cron(&parsed, since);
        }
    }
    match validated(&text) {
        Ok(validated) => {
            let timetable = validated.schedule.unwrap();
            let mut last = since;
            for at in timetable.upcoming(since, "uid", 3) {
                assert!(at > last, "{at} is not after {last}");
                last = at;
            }
            let _ = (timetable.start(since, "uid", last), timetable.tell());
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in problems {
                assert!(REFUSALS.contains(&wording(&problem.message)), "{}", problem.message);
            }
        }
    }
}

/// The fields of a schedule, as [`schedule`] has them, in a resource that is checked.
fn validated(fields: &str) -> Result<Validated, Vec<Problem>> {
    let [cron, zone, interval, jitter, window, duration, _instant] = parts(fields);
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let mut schedule = json!({
        "cron": some(cron), "timeZone": some(zone), "interval": some(interval), "jitter": some(jitter),
    });
    if !window.is_empty() {
        schedule["windows"] = json!([{ "cron": window, "duration": duration, "timeZone": some(zone) }]);
    }
    let resource = serde_json::from_value(json!({
        "apiVersion": "appcode.dev/v1alpha1", "kind": "AppCodeRotation", "metadata": { "name": "name", "namespace": "ns" },
        "spec": {
            "region": "cn-north-4", "projectId": "project", "appId": "app", "credentialsRef": { "name": "credentials" },
            "schedule": schedule,
        },
    }))
    .unwrap();
    let rules = Rules {
        endpoints: EndpointRules::default(),
        verification_hosts: VerificationHosts::default(),
        minimum_interval: SignedDuration::from_mins(10),
        daily_budget: 6,
        forbid_plaintext: false,
        allowances: Vec::new(),
    };
    validate(&resource, &rules)
}

/// All that is said of schedules that are refused.
static REFUSALS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
    let refused = [
        "",
        "x\nx",
        "* * * * *",
        "@hourly",
        "0 0 31 2 *",
        "@daily\n\n\n24h",
        "\nUTC\n0s\nx",
        "\n\nx",
        "\n\n1s\n1s",
        "\n\n1h",
        "@daily\nx\n\n\nx\nx",
        "@daily\n\n\n\n0 0 31 2 *\n0s",
    ];
    let problems = refused.into_iter().flat_map(|fields| validated(fields).err().unwrap());
    problems.map(|problem| wording(&problem.message)).collect()
});

fn assert_cron(cron: &Cron, since: Timestamp) {
    assert!(cron.per_day() >= 1);
    let Some(gap) = cron.smallest_gap() else {
        return; // it never fires, and all years are searched for that
    };
    assert!(gap >= SignedDuration::from_mins(1));
    let Some(next) = cron.next(since) else { return };
    assert!(next > since, "{next} is not after {since}");
    if let Some(last) = cron.last(next) {
        assert_eq!(last, next, "the last firing at a firing is that one");
    }
    if let Some(last) = cron.last(since) {
        assert!(
            last <= since && cron.next(last).is_some_and(|after| after >= next),
            "nothing fires in between"
        );
    }
}

/// A template: whatever it is, its faults name their field; one without faults renders within its bounds, and all that is
/// shown of it is the same whatever the codes are, so a code comes into data only.
pub fn template(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let map = |key: &str| BTreeMap::from([(key.to_owned(), TemplateText(text.clone().into_owned()))]);
    for (labels, annotations) in [
        (BTreeMap::new(), BTreeMap::new()),
        (map("a"), BTreeMap::new()),
        (BTreeMap::new(), map("a")),
    ] {
        let layout = Layout {
            template: SecretTemplate {
                kind: None,
                labels,
                annotations,
                data: map("url"),
            },
            ..Layout::default()
        };
        for fault in layout.faults(Some(&app()), Some("shop")) {
            assert!(fault.to_string().starts_with("spec.target.template"), "{fault}");
        }
        let [one, other] = [("code-0123456789", ""), ("another", "code-0123456789")].map(|(app_code, previous)| {
            let rendered = layout.render(Values {
                app_code,
                previous,
                app: &app(),
                app_name: "shop",
            });
            let data = rendered.iter().flat_map(|it| it.data.values());
            let bytes: usize = data.map(|value| value.expose_secret().len()).sum();
            assert!(bytes <= 64 * 1024, "{bytes} bytes");
            rendered.ok()
        });
        if let (Some(one), Some(other)) = (one, other) {
            assert_eq!((&one.labels, &one.annotations), (&other.labels, &other.annotations));
            assert_eq!(format!("{one:?}"), format!("{other:?}"), "a code is shown");
        }
    }
}
