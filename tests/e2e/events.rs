//! `kubectl describe` tells the recent story of a resource, each thing once and in order.

use appcode_operator::ids::{AppId, Fingerprint};
use serde_json::json;

use crate::stage::Stage;
use crate::{FLAGS, message, stage_with};

impl Stage {
    /// Type, reason and message of each event, as `kubectl describe` shows them.
    fn told(&self, namespace: &str, name: &str) -> Vec<[String; 3]> {
        let text = self.kubectl(&["describe", "acr", name, "-n", namespace]);
        let (_, events) = text.split_once("\nEvents:").expect("events are shown");
        // The commands of a message stand below its row.
        let is_row = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("kubectl ");
        let rows = events.lines().skip(1).filter(is_row);
        let cells = rows.map(|row| {
            let mut cells = row.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
            let [kind, reason, _age, from, message] =
                std::array::from_fn(|_| cells.next().unwrap_or_default().to_owned());
            assert_eq!(
                from,
                if kind == "Type" {
                    "From"
                } else if kind == "----" {
                    "----"
                } else {
                    "appcode-operator"
                }
            );
            [kind, reason, message]
        });
        cells.filter(|[kind, ..]| kind != "Type" && kind != "----").collect()
    }

    async fn until_told(&self, name: &str, reason: &str, count: usize) {
        let is_it = |event: &&[String; 3]| event[1] == reason;
        self.until(&format!("{reason} is told of {name}"), || {
            self.told("a", name).iter().filter(is_it).count() == count
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::too_many_lines, reason = "a story is as long as its events")]
async fn kubectl_describe_tells_the_story_of_a_resource_and_no_restart_tells_it_again() {
    let mut stage = stage_with(&[]).await;
    assert!(
        FLAGS.contains(&"--check-period=8s"),
        "so that much is looked at while this runs"
    );
    stage.namespace("a");
    let app = stage.app(1);
    let spec = |more| stage.rotation("a", "one", &app.app_id, &more);
    let (id, old) = (app.app_id.clone(), app.codes[0].clone());
    stage.apply(&spec(json!({})));
    stage.until_told("one", "Adopted", 1).await;
    stage.apply(&spec(json!({"rotationTrigger": "x"})));
    stage.until_told("one", "Rotated", 1).await;
    let by_overlap = json!({"rotationTrigger": "y", "strategy": "Overlap", "overlap": {"gracePeriod": "1s"}});
    stage.apply(&spec(by_overlap));
    stage.until_told("one", "Retired", 1).await;

    // A stop that lasts, over a restart, and its end.
    stage.credentials("a", &stage.user.ak, "a-secret-key-that-belongs-to-nobody");
    stage.until_told("one", "CredentialsRejected", 1).await;
    assert_eq!(stage.end_operator("TERM"), Some(0));
    stage.start_operator();
    stage.kubectl(&[
        "annotate",
        "acr",
        "one",
        "-n",
        "a",
        "appcode.dev/check-requested-at=once",
    ]);
    stage
        .until("it was looked at again", || {
            let status = stage.status("a", "one");
            let seen = status["observedGeneration"] == stage.get("a", "acr", "one")["metadata"]["generation"];
            seen && message(&status, "Stalled").starts_with("CredentialsRejected")
        })
        .await;
    stage.credentials("a", &stage.user.ak, &stage.user.sk);
    stage.kubectl(&[
        "annotate",
        "acr",
        "one",
        "-n",
        "a",
        "--overwrite",
        "appcode.dev/check-requested-at=again",
    ]);
    stage.until_told("one", "CodeListed", 1).await;
    stage.kubectl(&["delete", "secret", "one", "-n", "a"]);
    stage.until_told("one", "Repaired", 1).await;

    let history = stage.status("a", "one")["history"].clone();
    let of = |entry: usize, field: &str| history[entry][field].as_str().unwrap().to_owned();
    let (second, first) = (
        (of(0, "rotationId"), of(0, "fingerprint")),
        (of(1, "rotationId"), of(1, "fingerprint")),
    );
    let zero = Fingerprint::of(&AppId::parse(id.clone()).unwrap(), &old).short();
    let story = [
        (
            "Normal",
            "Adopted",
            format!("Took over code {zero} of app {id} into Secret one without rotating it."),
        ),
        (
            "Normal",
            "Rotated",
            format!(
                "Rotated the code of app {id} (trigger Spec, rotation {}, number 1): Secret one holds the new code {}; {zero}, the one \
             before, is dead.",
                first.0, first.1,
            ),
        ),
        (
            "Normal",
            "Rotated",
            format!(
                "Rotated the code of app {id} (trigger Spec, rotation {}, number 2): Secret one holds the new code {}; {}, the one \
             before, works until it is retired.",
                second.0, second.1, first.1,
            ),
        ),
        (
            "Normal",
            "Retired",
            format!(
                "Code {} of app {id}, which rotation {} replaced, is gone from the cloud and works no more.",
                first.1, second.0,
            ),
        ),
        (
            "Warning",
            "CredentialsRejected",
            "The cloud refuses the credentials in Secret credentials".to_owned(),
        ),
        (
            "Normal",
            "CodeListed",
            format!(
                "All is well again: Secret one holds code {}, which the cloud lists for app {id}.",
                second.1,
            ),
        ),
        (
            "Normal",
            "Repaired",
            format!(
                "Wrote code {} of app {id} into Secret one again, which did not hold it.",
                second.1,
            ),
        ),
    ];
    let assert_told = |stage: &Stage| {
        let told = stage.told("a", "one");
        let reasons: Vec<&str> = told.iter().map(|event| event[1].as_str()).collect();
        assert_eq!(reasons, story.each_ref().map(|it| it.1), "{told:#?}");
        for (told, (kind, _, text)) in told.iter().zip(&story) {
            assert_eq!(told[0], *kind);
            assert!(told[2].starts_with(text.as_str()), "{}\n{text}", told[2]);
        }
    };
    assert_told(&stage);
    for _ in 0..2 {
        assert_eq!(stage.end_operator("KILL"), None);
        stage.start_operator();
        stage.until_checked_again("a", "one").await;
    }
    assert_told(&stage);
}
