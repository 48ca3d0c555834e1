//! The cloud as a value, without HTTP and without waiting.

use cloud_simulator::{
    AppRequest, Behaviour, Call, Caller, Cloud, Delivery, Fault, Half, LostAnswer, NewApp, Operation,
};
use jiff::{SignedDuration, Timestamp};

fn start() -> (Cloud, Caller, String, Timestamp) {
    let mut cloud = Cloud::new(1, Behaviour::default());
    let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let (_, user, project) = cloud.add_tenant("acme");
    let app = cloud.create_app(now, NewApp::of(&user.user_id, &project).codes(1));
    let caller = cloud.caller(&user.user_id, Some(&project)).unwrap();
    (cloud, caller, app.app_id, now)
}

fn reset(caller: &Caller, app: &str, code: &str) -> Call {
    Call::ResetCode {
        project: caller.project.clone().unwrap(),
        app: app.to_owned(),
        code: code.to_owned(),
        body: Some(AppRequest {
            app_name: Some("any".into()),
            ..AppRequest::default()
        }),
    }
}

#[test]
fn serves_typed_calls_at_the_time_it_is_told() {
    let (mut cloud, caller, app, now) = start();
    let old = cloud.live_codes(&app)[0].clone();
    let arrival = cloud.arrive_as(now, &caller, reset(&caller, &app, &old));
    let later = now + SignedDuration::from_secs(5);
    let outcome = cloud.serve(later, arrival);
    let answer = outcome.answer().unwrap();
    assert_eq!(
        answer.value()["app"]["app_codes"],
        serde_json::json!(cloud.live_codes(&app))
    );
    assert_eq!(answer.value()["app"]["updated_at"], later.as_millisecond());
    let entry = &cloud.ledger().requests[0];
    assert_eq!(
        (entry.time, entry.operation, entry.had_effect),
        (now, Operation::Reset, true)
    );
    assert_eq!(cloud.ledger().effects.last().unwrap().time, later);
}

#[test]
fn goes_two_ways_from_a_copy() {
    let (mut cloud, caller, app, now) = start();
    let old = cloud.live_codes(&app)[0].clone();
    let call = reset(&caller, &app, &old);
    let mut other = cloud.clone();
    other.inject(Fault::half_reset(Half::NoneMade));
    for cloud in [&mut cloud, &mut other] {
        let arrival = cloud.arrive_as(now, &caller, call.clone());
        cloud.serve(now, arrival);
    }
    assert_eq!((cloud.live_codes(&app).len(), other.live_codes(&app).len()), (1, 0));
}

#[test]
fn keeps_late_work_until_its_time() {
    let (mut cloud, caller, app, now) = start();
    let old = cloud.live_codes(&app)[0].clone();
    cloud.inject(Fault::late(Some(std::time::Duration::from_secs(9)), LostAnswer::Cut));
    let arrival = cloud.arrive_as(now, &caller, reset(&caller, &app, &old));
    assert_eq!(cloud.serve(now, arrival).delivery, Delivery::Cut);
    let due = cloud.next_due().unwrap();
    assert_eq!(due.duration_since(now), SignedDuration::from_secs(9));
    cloud.advance(due - SignedDuration::from_millis(1));
    assert_eq!(cloud.live_codes(&app), std::slice::from_ref(&old));
    cloud.advance(due + SignedDuration::from_secs(60));
    assert_ne!(cloud.live_codes(&app), [old]);
    assert_eq!(cloud.ledger().effects.last().unwrap().time, due);
}
