use super::*;

#[test]
fn what_is_due_waits_for_the_minimum_interval() {
    fn asked(o: &mut Observed, number: i64, completed: i64, recent: &[i64]) {
        ask(o);
        rotated(o, number, completed);
        ours(&mut o.secret).record.recent = recent.iter().map(|seconds| ago(*seconds)).collect();
    }
    check(
        settled,
        &[
            ("just completed", |o| asked(o, 1, 599, &[]), "wait Waiting"),
            ("long ago", |o| asked(o, 1, 600, &[]), "intent"),
            ("just taken over", |o| asked(o, 0, 1, &[]), "intent"),
            ("just started", |o| asked(o, 1, 700, &[599]), "wait Waiting"),
            ("started long ago", |o| asked(o, 1, 700, &[600]), "intent"),
            ("started now", |o| asked(o, 0, 1, &[0]), "wait Waiting"),
            (
                "started by a clock that was set back",
                |o| asked(o, 1, 700, &[900, -1]),
                "intent",
            ),
        ],
    );
    for (completed, recent, left) in [(500, 700, 100), (700, 500, 100), (1, 2, 599)] {
        assert_eq!(
            pause(&plan(&with(|o| asked(o, 1, completed, &[recent])), now())),
            secs(left)
        );
    }
}

#[test]
fn the_starts_of_the_last_day_are_kept_from_the_longest_list() {
    let recent = |change: fn(&mut Observed)| {
        let o = with(|o| {
            ask(o);
            o.limits.minimum_interval = SignedDuration::ZERO;
            change(o);
        });
        let (record, _) = started(&o);
        let seconds = record.recent.iter().map(|at| now().duration_since(*at).as_secs());
        seconds.collect::<Vec<_>>()
    };
    fn recorded(o: &mut Observed, seconds: &[i64]) {
        ours(&mut o.secret).record.recent = seconds.iter().map(|seconds| ago(*seconds)).collect();
    }
    fn history(o: &mut Observed, entries: &[(i64, i64)]) {
        let (_, intent) = started(&with(ask));
        let entry = |(number, seconds): &(i64, i64)| crate::api::HistoryEntry {
            rotation_id: intent.rotation_id.to_string(),
            number: *number,
            trigger: intent.trigger,
            strategy: intent.strategy,
            started_at: Time(ago(*seconds)),
            completed_at: Time(ago(*seconds)),
            fingerprint: String::new(),
            outcome: crate::api::Outcome::Completed,
            exposure_millis: None,
            retired_at: None,
        };
        o.status.history = entries.iter().map(entry).collect();
    }
    assert_eq!(recent(|_| {}), [0]);
    assert_eq!(recent(|o| recorded(o, &[DAY, DAY - 1, 5])), [DAY - 1, 5, 0]);
    assert_eq!(recent(|o| recorded(o, &[5, -60, 7])), [7, 5, -60, 0]);
    assert_eq!(recent(|o| history(o, &[(2, 60), (1, 90), (0, 95)])), [90, 60, 0]);
    let both = |o: &mut Observed| {
        recorded(o, &[100, 80]);
        history(o, &[(1, 90)]);
    };
    assert_eq!(recent(both), [100, 80, 0]);
    let former = |o: &mut Observed| {
        recorded(o, &[100]);
        o.former = o.secret.clone();
        ours(&mut o.former).record.recent = vec![ago(300), ago(200)];
    };
    assert_eq!(recent(former), [300, 200, 0]);
}

#[test]
fn the_daily_budget_stops_until_the_first_start_is_a_day_old() {
    fn spent(o: &mut Observed, first: i64, number: i64) {
        ask(o);
        o.limits.minimum_interval = SignedDuration::ZERO;
        let recent = (0..number).map(|at| ago(first - at)).collect();
        ours(&mut o.secret).record.recent = recent;
    }
    check(
        settled,
        &[
            ("five of six", |o| spent(o, 4000, 5), "intent"),
            ("six of six", |o| spent(o, 4000, 6), "stop BudgetExhausted"),
            ("the first is a day old", |o| spent(o, DAY, 6), "intent"),
            (
                "not asked for more",
                |o| {
                    spent(o, 4000, 6);
                    wanted(o).trigger = None;
                },
                "rest",
            ),
        ],
    );
    for (first, number, after) in [(DAY - 400, 6, 400), (DAY - 400, 7, 401), (4000, 6, 3600)] {
        let step = plan(&with(|o| spent(o, first, number)), now());
        assert_eq!(
            (word(&step).as_str(), pause(&step)),
            ("stop BudgetExhausted", secs(after))
        );
    }
    let step = plan(&with(|o| spent(o, DAY - 400, 6)), now());
    let opens = (now() + secs(400)).to_string();
    assert!(message(&step).contains(&opens), "{step:?}");
    // What is to be taken back is where it was asked for.
    let told = |change: fn(&mut Observed)| {
        let step = plan(
            &with(|o| {
                spent(o, 4000, 6);
                wanted(o).trigger = None;
                change(o);
            }),
            now(),
        );
        assert_eq!(word(&step), "stop BudgetExhausted");
        (message(&step).contains("kubectl edit acr "), message(&step).to_owned())
    };
    let cases: [(&str, bool, fn(&mut Observed)); 5] = [
        ("spec.rotationTrigger or the annotation", false, ask),
        ("spec.rotationTrigger or the annotation", false, |o| {
            o.resource.request = Some("please".into());
        }),
        ("the app or the seed", true, |o| {
            list(o, &[1, 2]);
            seed(o, 2, false);
        }),
        ("spec.schedule", true, |o| {
            daily(o);
            rotated(o, 0, DAY);
        }),
        ("spec.initialRotation: WhenDue", true, |o| {
            let recent = ours(&mut o.secret).record.recent.clone();
            o.former = SecretView::Absent;
            o.status = crate::api::AppCodeRotationStatus::default();
            let record = &mut ours(&mut o.secret).record;
            (record.fingerprint, record.recent) = (None, recent);
            wanted(o).initial = Some(crate::api::InitialRotation::Immediate);
        }),
    ];
    for (what, is_edit, change) in cases {
        let (has_edit, told) = told(change);
        assert!(told.contains(what), "{what}: {told}");
        assert_eq!(has_edit, is_edit, "{told}");
        assert_eq!(told.contains("rotate-requested-at-"), !is_edit, "{told}");
    }
    // Of a budget that no annotation can hold only so much is kept.
    let o = with(|o| {
        spent(o, 50_000, 1000);
        o.limits.daily_budget = 5000;
    });
    let (record, _) = started(&o);
    assert_eq!((record.recent.len(), record.recent[0]), (1000, ago(49_999)));
    assert_eq!(record.recent.last(), Some(&now()));
    let few = with(|o| {
        spent(o, 50_000, 999);
        o.limits.daily_budget = 5000;
    });
    assert_eq!(started(&few).0.recent.len(), 1000);
}
