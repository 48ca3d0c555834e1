use std::collections::BTreeMap;

use proptest::prelude::*;
use secrecy::ExposeSecret;

use super::*;
use crate::ids::{AppId, ProjectId};

fn app() -> AppIdentity {
    AppIdentity {
        endpoint: "https://modelarts.example.com:8443".into(),
        project_id: ProjectId::parse("project").unwrap(),
        app_id: AppId::parse("app").unwrap(),
    }
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, TemplateText> {
    let entry = |(key, text): &(&str, &str)| ((*key).to_owned(), TemplateText((*text).to_owned()));
    entries.iter().map(entry).collect()
}

fn layout(labels: &[(&str, &str)], annotations: &[(&str, &str)], data: &[(&str, &str)]) -> Layout {
    Layout {
        template: SecretTemplate {
            kind: None,
            labels: map(labels),
            annotations: map(annotations),
            data: map(data),
        },
        ..Layout::default()
    }
}

fn faults(layout: &Layout) -> Vec<String> {
    let faults = layout.faults(Some(&app()), None);
    faults.iter().map(Fault::to_string).collect()
}

fn data(text: &str) -> Vec<String> {
    faults(&layout(&[], &[], &[("url", text)]))
}

fn render(layout: &Layout, previous: &str) -> Result<Rendition, Fault> {
    layout.render(Values {
        app_code: "c/o d\"e",
        previous,
        app: &app(),
        app_name: "shop",
    })
}

fn text(text: &str, previous: &str) -> String {
    let rendition = render(&layout(&[], &[], &[("url", text)]), previous).unwrap();
    rendition.data["url"].expose_secret().to_owned()
}

#[test]
fn a_template_is_rendered_with_its_six_values_and_three_filters() {
    let all = "{{ appCode }}|{{ previousAppCode }}|{{ projectId }}|{{ appId }}|{{ appName }}|{{ endpoint }}\n";
    let rendered = "c/o d\"e||project|app|shop|https://modelarts.example.com:8443\n";
    assert_eq!(
        text(all, ""),
        rendered,
        "its last line end is kept and nothing is escaped"
    );
    assert_eq!(text("{{ appCode | base64 }}", ""), "Yy9vIGQiZQ==");
    assert_eq!(
        text("{\"code\": {{ appCode | json }}}", ""),
        "{\"code\": \"c/o d\\\"e\"}"
    );
    assert_eq!(text("{{ appCode | urlencode }}", ""), "c%2Fo%20d%22e");
    assert_eq!(text("{{ ('x:' ~ appCode) | base64 }}", ""), "eDpjL28gZCJl");
    assert_eq!(
        text(
            "{% if previousAppCode %}{{ previousAppCode }}{% else %}none{% endif %}",
            ""
        ),
        "none"
    );
    assert_eq!(
        text(
            "{% if previousAppCode %}{{ previousAppCode }}{% else %}none{% endif %}",
            "old"
        ),
        "old"
    );
    assert_eq!(
        text("{{ appCode[-3:] }}{# a comment #}{% raw %}{{{% endraw %}", ""),
        "d\"e{{"
    );
    assert_eq!(
        text(
            "{% set a = appId %}{% for c in a %}{{ loop.index }}{{ c }}{% endfor %}",
            ""
        ),
        "1a2p3p"
    );
}

#[test]
fn nothing_of_a_rendition_shows_itself() {
    let rendition = render(&layout(&[], &[], &[("url", "{{ appCode }}")]), "").unwrap();
    assert!(!format!("{rendition:?}").contains("c/o"));
}

#[test]
fn what_a_template_may_not_use_is_told_by_key_and_line_in_branches_not_taken_too() {
    let known = "appCode, previousAppCode, projectId, appId, appName and endpoint";
    for (template, words) in [
        ("{{ namespace }}", known),
        ("{% if false %}{{ hunter2 }}{% endif %}", known),
        ("{{ range(9) }}", known),
        (
            "a\n{% if false %}{{ appCode | upper }}{% endif %}",
            "line 2, uses an unknown filter; there are base64",
        ),
        ("{% filter upper %}x{% endfilter %}", "unknown filter"),
        ("{{ appCode is defined }}", "uses a test"),
        ("{{ appCode.upper() }}", "fails"),
        ("{{ appId.x }}", "not defined"),
        ("\n\n{{ appCode", "line 3, is no template"),
        ("{% include 'x' %}", "is no template"),
        ("{% import 'x' as y %}", "is no template"),
        ("{% extends 'x' %}", "is no template"),
        ("{% macro f() %}{% endmacro %}", "is no template"),
        ("{{ appCode + 1 }}", "calculates"),
        ("{{ [1] * 100000000 }}", "calculates"),
        ("{{ 1 // 0 }}", "calculates"),
        ("{{ {1: 2} }}", "map"),
        ("{{ [appCode] }}", "neither text nor number"),
    ] {
        let found = data(template);
        assert_eq!(found.len(), 1, "{template}: {found:?}");
        assert!(found[0].starts_with("spec.target.template.data[url]"), "{found:?}");
        assert!(found[0].contains(words), "{template}: {found:?}");
        assert!(!found[0].contains("hunter2"));
    }
}

/// Each was seen to kill or to stall an engine that is given it as it is.
#[test]
fn a_hostile_template_costs_little_and_nests_little() {
    let times = |part: &str| part.repeat(16_000 / part.len());
    let nested = |open: &str, close: &str| format!("{{{{ {}1{} }}}}", open.repeat(4000), close.repeat(4000));
    let chains = [
        "~appId",
        "-appId",
        " and appId",
        "|json",
        ".a",
        "[0]",
        "()",
        "[:]",
        " if 1 else appId",
        "<appId",
    ];
    let mut hostile: Vec<String> = chains
        .iter()
        .map(|part| format!("{{{{ appId{} }}}}", times(part)))
        .collect();
    hostile.extend(["-", "not ", "(", "["].map(|part| format!("{{{{ {}appId }}}}", times(part))));
    hostile.extend([nested("(", ")"), nested("[", "]"), nested("f(", ")")]);
    hostile.push(format!("{{% if 1 %}}{}{{% endif %}}", times("{% elif 1 %}")));
    hostile.push(format!("{}{}", "{% if 1 %}".repeat(800), "{% endif %}".repeat(700)));
    hostile.push(format!("{{% filter json{} %}}x{{% endfilter %}}", times("|json")));
    hostile.push(format!("{{% set {}x = 1 %}}", times("x, ")));
    let double = "{% set x = x ~ x %}";
    hostile.push(format!("{{% set x = appId %}}{}{{{{ x }}}}", double.repeat(60)));
    hostile.push("{% for a in 'xyz' recursive %}{{ loop('xyz') }}{% endfor %}".into());
    let digits = "{% for a in '0123456789' %}";
    hostile.push(format!("{}x{}", digits.repeat(20), "{% endfor %}".repeat(20)));
    hostile.push(format!(
        "{}{}{}",
        digits.repeat(4),
        "x".repeat(100),
        "{% endfor %}".repeat(4)
    ));
    for template in hostile {
        let start = template.chars().take(60).collect::<String>();
        let found = data(&template);
        assert_eq!(found.len(), 1, "{start}: {found:?}");
        assert!(found[0].len() < 200, "{found:?}");
    }
}

#[test]
fn all_that_is_rendered_has_one_bound() {
    let part = "x".repeat(15_000);
    let four: Vec<(String, &str)> = (0..4).map(|n| (format!("k{n}"), part.as_str())).collect();
    let four: Vec<(&str, &str)> = four.iter().map(|(key, text)| (key.as_str(), *text)).collect();
    assert_eq!(faults(&layout(&[], &[], &four)), Vec::<String>::new());
    let more = [("last", "{% for a in appCode %}{{ appCode }}{% endfor %}")];
    let found = faults(&layout(&[], &[], &[four.as_slice(), &more].concat()));
    assert!(found.len() == 1 && found[0].contains("more than 64 KiB"), "{found:?}");
    assert!(data(&"x".repeat(16 * 1024 + 1))[0].contains("more than 16 KiB"));
}

#[test]
fn no_code_gets_into_labels_or_annotations() {
    let fine = layout(
        &[
            ("team", "{{ appName }}-{{ projectId }}"),
            ("app.kubernetes.io/part-of", "shop"),
        ],
        &[("example.com/endpoint", "{{ endpoint }}")],
        &[],
    );
    assert_eq!(faults(&fine), Vec::<String>::new());
    let rendition = render(&fine, "").unwrap();
    assert_eq!(rendition.labels["team"], "shop-project");
    assert_eq!(rendition.annotations["example.com/endpoint"], app().endpoint);
    for template in [
        "{{ appCode }}",
        "{% if false %}{{ previousAppCode }}{% endif %}",
        // The analysis takes this for a name of the template's own; there is just no code to be found there.
        "{% set appCode = appCode %}{{ appCode }}",
        "{% if false %}{% set appCode = 1 %}{% endif %}{{ appCode }}",
    ] {
        for bad in [
            layout(&[("a", template)], &[], &[]),
            layout(&[], &[("a", template)], &[]),
        ] {
            assert_eq!(faults(&bad).len(), 1, "{template}");
            let is_read = !template.contains("previousAppCode");
            assert_eq!(render(&bad, "old").is_err(), is_read, "{template}");
        }
    }
}

#[test]
fn keys_are_what_the_api_server_takes_and_nobody_elses() {
    let long = "x".repeat(64);
    let bad = ["", "a b", "-a", "a/b/c", "/a", "a/", "Ä", &long, "https://x"];
    let taken = [
        "appcode.dev/intent",
        "x.appcode.dev/y",
        "app.kubernetes.io/managed-by",
        "kubernetes.io/x",
        "kubectl.kubernetes.io/last-applied-configuration",
        "node.k8s.io/x",
    ];
    for key in bad.iter().chain(&taken) {
        for layout in [layout(&[(key, "x")], &[], &[]), layout(&[], &[(key, "x")], &[])] {
            let found = faults(&layout);
            assert_eq!(found.len(), 1, "{key}: {found:?}");
            assert!(
                key.is_empty() || taken.contains(key) || !found[0].contains(key),
                "{found:?}"
            );
        }
    }
    for key in [
        "a",
        "A.b_c-d",
        "example.com/a",
        "app.kubernetes.io/name",
        "notappcode.dev/x",
        "xk8s.io/y",
    ] {
        assert_eq!(
            faults(&layout(&[(key, "x")], &[(key, "x")], &[])),
            Vec::<String>::new(),
            "{key}"
        );
    }
    assert!(faults(&layout(&[], &[("APPCODE.dev/x", "x")], &[]))[0].contains("the operator's own"));
    assert!(faults(&layout(&[], &[], &[("..", "x")]))[0].starts_with("spec.target.template.data has a key"));
    for value in ["a b", "-", &"x".repeat(64), "x\n"] {
        assert!(
            faults(&layout(&[("a", value)], &[], &[]))[0].contains("label's value"),
            "{value}"
        );
    }
}

#[test]
fn whatever_shapes_what_is_rendered_changes_its_shape() {
    let print = |code: &str| Fingerprint::of(&app().app_id, code);
    let plain = Layout::default();
    assert_eq!(plain.shape("appCode", "shop", print("1"), None), None);
    let one = layout(&[], &[], &[("url", "x")]);
    let other = layout(&[], &[("url", "x")], &[]);
    let kept = Layout {
        previous_key: Some("old".into()),
        ..one.clone()
    };
    let shapes = [
        one.shape("appCode", "shop", print("1"), None),
        one.shape("appCode", "shop", print("2"), None),
        one.shape("appCode", "shop", print("1"), Some(print("2"))),
        one.shape("appCode", "other", print("1"), None),
        one.shape("key", "shop", print("1"), None),
        other.shape("appCode", "shop", print("1"), None),
        kept.shape("appCode", "shop", print("1"), None),
    ];
    let different: std::collections::BTreeSet<_> = shapes.iter().flatten().collect();
    assert_eq!(different.len(), shapes.len());
    assert_eq!(shapes[0], one.shape("appCode", "shop", print("1"), None));
}

#[test]
fn a_basic_auth_secret_begins_with_a_user_name_and_no_code() {
    let with = |data: &[(&str, &str)]| {
        let mut layout = layout(&[], &[], data);
        layout.template.kind = Some(SecretType::BasicAuth);
        layout
    };
    let first = |layout: &Layout, key: &str| layout.first_data(key, &app(), "shop");
    assert_eq!(first(&layout(&[], &[], &[("username", "x")]), "appCode"), None);
    let named = with(&[("username", "{{ appName }}")]);
    assert_eq!(first(&named, "password"), Some(("username", "shop".to_owned())));
    let secret = with(&[("username", "{{ appCode }}")]);
    assert_eq!(first(&secret, "password"), Some(("username", String::new())));
    assert_eq!(first(&with(&[]), "username"), Some(("password", String::new())));
}

proptest! {
    #[test]
    fn no_text_breaks_the_engine(
        parts in prop::collection::vec(prop::sample::select(vec![
            "{{", "}}", "{%", "%}", " if ", " endif ", " for ", " in ", " endfor ", " set ", "=", "appCode", "appId", "'", "|json",
            "~", "(", ")", "[", "]", ",", " else ", ":", "-", "1", "\n", "é", "{#", "#}", " raw ", " endraw ", "loop", " recursive ",
            " with ", " endwith ", " autoescape ", "<", " not ", "x",
        ]), 0..60),
    ) {
        let template = parts.concat();
        for fault in data(&template) {
            prop_assert!(fault.starts_with("spec.target.template.data[url]"), "{fault}");
        }
        for fault in faults(&layout(&[("a", &template)], &[("a", &template)], &[])) {
            prop_assert!(fault.starts_with("spec.target.template."), "{fault}");
        }
    }
}
