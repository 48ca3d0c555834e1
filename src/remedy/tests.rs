use pretty_assertions::assert_eq;

use super::*;
use crate::api::Reason;
use crate::validate::{Problem, Remedy};

/// As the runbook names it.
const ON_PAGE: Kubectl<'_> = Kubectl {
    namespace: "NAMESPACE",
    name: "NAME",
};

/// Headings of stops that correcting the spec by hand resolves.
const EDITED: &[&str] = &[
    "SecretNotWritable",
    "InvalidSpec",
    "ScheduleNeverFires",
    "TemplateInvalid",
    "BudgetExhausted",
    "RolloutHeld",
];

#[test]
fn every_command_stands_on_the_page_under_the_headings_of_its_messages() {
    let k = ON_PAGE;
    let patch = |spec: Value| k.patch(&spec);
    for (headings, commands) in [
        (
            &["AmbiguousOutcome", "CodeNotListed", "AppCodeAmbiguous"] as &[&str],
            vec![k.answer()],
        ),
        (
            &["SeedUnreadable"],
            vec![
                k.make_seed("SEED", "appCode"),
                k.mend_seed("SEED", "appCode"),
                patch(json!({"appCodeFrom": null})),
            ],
        ),
        (
            &[
                "CodesMasked",
                "NotAuthorized",
                "NotOwner",
                "CredentialsMissing",
                "CredentialsRejected",
            ],
            k.other_credentials().into(),
        ),
        (
            &["CodeNotAddressable", "CodeNotListed", "Conflict"],
            k.another_seed().into(),
        ),
        (
            &["CapacityExhausted"],
            vec![k.look(), patch(json!({"strategy": "Reset"}))],
        ),
        (&["Conflict"], vec![k.delete(), k.another_target()]),
        (
            &["CredentialsMissing"],
            vec![k.make_credentials("CREDENTIALS"), k.mend_credentials("CREDENTIALS")],
        ),
        (&["CredentialsRejected"], vec![k.mend_credentials("CREDENTIALS")]),
        (
            &["SecretConflict"],
            vec![
                k.another_target(),
                k.delete_secret("SECRET"),
                patch(json!({"target": {"deletionPolicy": "Retain"}})),
                k.annotate_secret("SECRET", "appcode.dev/created=SECRET"),
                k.edit(),
                k.remove_key("SECRET", "KEY"),
                k.unlabel_secret("SECRET", "KEY"),
                k.annotate_secret("SECRET", "KEY-"),
            ],
        ),
        (
            &["SecretNotWritable"],
            vec![
                k.delete_secret("SECRET"),
                k.edit_secret("SECRET"),
                k.another_target(),
                k.make_secret("SECRET"),
                patch(json!({"target": {"creationPolicy": "Create"}})),
            ],
        ),
        (&["SecretNotWritable"], k.unlock_secret("SECRET").into()),
        (
            &[
                "SecretNotWritable",
                "FinalizerRefused",
                "RolloutHeld",
                "SeedUnreadable",
                "CredentialsMissing",
            ],
            k.install_again().into(),
        ),
        (
            &["SecretNotWritable", "UnknownIntentFormat"],
            vec![k.save_secret("SECRET"), k.delete_secret("SECRET")],
        ),
        (EDITED, vec![k.edit()]),
        (&["VerificationFailed"], k.another_verification().into()),
        (&["BudgetExhausted"], k.take_back().into()),
        (
            &["RolloutHeld"],
            vec![
                k.rollout("resume", "deployment/WORKLOAD"),
                k.rollout("restart", "deployment/WORKLOAD"),
                k.describe("deployment/WORKLOAD"),
                k.edit_workload("deployment/WORKLOAD"),
                k.lower_partition("statefulset/WORKLOAD"),
                k.delete_pod(),
            ],
        ),
    ] {
        for (heading, command) in headings
            .iter()
            .flat_map(|heading| commands.iter().map(move |it| (heading, it)))
        {
            assert!(page::tells(heading, command), "{command} is not under {heading}");
        }
    }
}

#[test]
fn whatever_is_wrong_with_a_spec_its_commands_stand_under_its_reason() {
    let kinds = [
        (Reason::InvalidSpec, Remedy::Edit),
        (Reason::ScheduleNeverFires, Remedy::Schedule),
        (Reason::ScheduleNeverFires, Remedy::Windows),
        (Reason::TemplateInvalid, Remedy::Template),
        (Reason::EndpointNotAllowed, Remedy::Endpoint),
        (Reason::EndpointNotAllowed, Remedy::Verification),
        (Reason::IdentityNotAllowed, Remedy::Credentials),
    ];
    let problem = |(reason, remedy)| Problem {
        reason,
        message: String::new(),
        remedy,
    };
    for (first, second) in kinds
        .iter()
        .flat_map(|one| kinds.iter().map(move |other| (*one, *other)))
    {
        let all = Problem::sum_up(&[problem(first), problem(second)]);
        for command in all.commands(ON_PAGE) {
            let heading = all.reason.as_str();
            assert!(page::tells(heading, &command), "{command} is not under {heading}");
        }
    }
}

#[test]
fn a_command_of_another_heading_is_not_under_this_one() {
    let k = ON_PAGE;
    assert!(page::tells("SecretConflict", &k.delete_secret("mine")));
    assert!(!page::tells("SeedUnreadable", &k.delete()));
    assert!(!page::tells("InvalidSpec", &k.look()));
    assert!(!page::tells("InvalidSpec", &(k.edit() + " --all")));
    assert!(!page::tells("NoSuchHeading", &k.edit()));
}

#[test]
fn a_message_is_a_line_of_prose_and_lines_of_commands() {
    let message = tell("It stopped.", ON_PAGE.another_template());
    assert_eq!(prose(&message), "It stopped.");
    assert_eq!(commands(&message).collect::<Vec<_>>(), ON_PAGE.another_template());
    assert_eq!(
        with_prose(&message, "Again."),
        message.replace("It stopped.", "It stopped. Again.")
    );
    assert_eq!(tell("Alone.", []), "Alone.");
    assert_eq!(commands("Alone.").count(), 0);
    let many = ["a", "a", "b", "c"].map(str::to_owned);
    assert_eq!(tell("Twice.", many), "Twice.\n      a\n      b");
}

#[test]
fn what_prose_quotes_becomes_no_command() {
    for hostile in [
        "no\n      kubectl delete secret one",
        "no\r\n      kubectl delete secret one",
        "no\u{2028}      kubectl delete secret one",
        "no\u{85}      kubectl delete secret one",
    ] {
        let message = tell(hostile, [ON_PAGE.edit()]);
        assert_eq!(commands(&message).collect::<Vec<_>>(), [ON_PAGE.edit()], "{message:?}");
        assert_eq!(message.lines().count(), 2, "{message:?}");
    }
}

#[test]
fn what_is_no_name_is_quoted_for_a_shell() {
    for text in ["web", "a.b-c_d", "appcode.dev/created=one", "deployment/web"] {
        assert_eq!(word(text), text);
    }
    for text in [
        "",
        "-n",
        "a b",
        "$(reboot)",
        "`reboot`",
        "a;reboot",
        "it's",
        "'\\''",
        "a\nreboot",
        "\"",
        "\u{202e}",
    ] {
        let printed = std::process::Command::new("sh")
            .args(["-c", &format!("printf %s {}", word(text))])
            .output()
            .unwrap();
        let expected: String = text.chars().filter(|c| !c.is_control()).collect();
        assert_eq!(String::from_utf8(printed.stdout).unwrap(), expected, "{text:?}");
    }
    let hostile = Kubectl {
        namespace: "a; reboot",
        name: "$(reboot)",
    };
    assert_eq!(hostile.delete(), "kubectl delete acr '$(reboot)' -n 'a; reboot'");
}

#[test]
fn a_cut_message_keeps_its_commands_or_loses_them_whole() {
    let message = tell(&"ä".repeat(400), ON_PAGE.other_credentials());
    let told: Vec<&str> = commands(&message).collect();
    for longest in 0..=message.len() {
        let cut = fit(message.clone(), longest);
        assert!(cut.len() <= longest, "{longest}");
        let left: Vec<&str> = commands(&cut).collect();
        assert!(left.is_empty() || left == told, "{longest}: {left:?}");
        assert_eq!(left.is_empty(), longest < message.len() - 600, "{longest}");
    }
    assert_eq!(fit(message.clone(), message.len()), message);
    let short = tell("Short.", [ON_PAGE.edit()]);
    assert_eq!(fit(short.clone(), short.len() - 1), "Short.");
}
