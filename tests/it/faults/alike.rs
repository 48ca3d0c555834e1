//! Where thousands of runs are made the cloud is called without HTTP. What its answers prove is then told as the real client
//! tells it: both are asked for every answer and every call.

use std::sync::Arc;

use appcode_operator::ids::{AppId, AppIdentity, ProjectId, WorkspaceId};
use appcode_operator::modelarts::{
    App, AppCode, AppCodes, Caller, CloudError, CloudErrorKind, Credentials, Echo, Endpoint, HttpAppCodes, HttpOptions,
    Target,
};
use cloud_simulator::{Fault, Operation, Reply};
use jiff::fmt::rfc2822;
use pretty_assertions::assert_eq;

use crate::support::Stage;
use crate::support::clock::ProcessClock;
use crate::support::cloud::DirectAppCodes;

const LOCKED: &str = "Incorrect IAM authentication information: AK access failed to reach the limit,forbidden";

/// Statuses with the codes that change what they mean.
fn answers(stage: &Stage) -> Vec<Reply> {
    let plain = [
        301, 302, 307, 400, 401, 402, 403, 404, 405, 406, 408, 409, 411, 413, 414, 415, 417, 418, 422, 431, 494, 500,
        501, 502, 503, 504,
    ];
    let coded = [
        (400, "ModelArts.0104"),
        (401, "APIG.0301"),
        (401, "ModelArts.0203"),
        (401, "ModelArts.0207"),
        (401, "ModelArts.0212"),
        (403, "ModelArts.0108"),
        (403, "ModelArts.0203"),
        (403, "ModelArts.0206"),
        (403, "APIG.0302"),
        (404, "APIG.0101"),
        (404, "APIGW.0101"),
        (404, "ModelArts.3923"),
        (409, "ModelArts.3929"),
        (500, "ModelArts.3927"),
    ];
    let locked = ["APIG.0301", "APIGW.0301"].map(|code| Reply::from(401).code(code).message(LOCKED));
    let date = |seconds: i64| {
        let at = stage.time.truth() + jiff::SignedDuration::from_secs(seconds);
        rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&at)
            .unwrap()
    };
    let waits = ["7", "0", "99999999", "-1", "soon"].map(str::to_owned);
    let waits = waits.into_iter().chain([date(60), date(-60), date(99_999)]);
    let throttled = waits.map(|wait| Reply::from(429).header("Retry-After", &wait).header("Date", &date(0)));
    let coded = coded.map(|(status, code)| Reply::from(status).code(code));
    let all = plain
        .into_iter()
        .map(Reply::from)
        .chain(coded)
        .chain(locked)
        .chain(throttled);
    all.chain([Reply::from(429)]).collect()
}

fn target(stage: &Stage) -> Target {
    Target {
        endpoint: Endpoint {
            modelarts: stage.endpoint.clone(),
            iam: stage.endpoint.clone(),
        },
        app: AppIdentity {
            endpoint: stage.endpoint.clone(),
            project_id: ProjectId::parse(stage.project.clone()).unwrap(),
            app_id: AppId::parse(stage.app.clone()).unwrap(),
        },
        workspace: WorkspaceId::parse("0").unwrap(),
        caller: Caller {
            source: "shop/credentials".into(),
            version: "1".into(),
            credentials: Credentials::Keys {
                access_key: stage.user.ak.clone(),
                secret_key: stage.user.sk.clone().into(),
                security_token: None,
            },
        },
    }
}

/// What came of each call on the app while the cloud answers so.
async fn proofs(stage: &Stage, cloud: &dyn AppCodes, reply: &Reply) -> Vec<(Operation, CloudErrorKind, Option<u16>)> {
    let (target, code) = (target(stage), AppCode::parse(stage.live().remove(0)).unwrap());
    let echo = Echo {
        name: "checkout-app".into(),
        remark: None,
    };
    let mut proofs = Vec::new();
    for operation in [Operation::Show, Operation::Reset, Operation::Add, Operation::Delete] {
        let fault = Fault::status_before(reply.clone()).at(operation).once();
        stage.cloud.with(|cloud| cloud.inject(fault));
        let outcome: Result<App, CloudError> = match operation {
            Operation::Show => cloud.show_app(&target).await,
            Operation::Reset => cloud.reset_code(&target, &code, &echo).await,
            Operation::Add => cloud.add_code(&target, &echo).await,
            _ => cloud.delete_code(&target, &code).await,
        };
        let error = outcome.unwrap_err();
        proofs.push((operation, error.kind, error.status));
    }
    proofs
}

#[tokio::test]
async fn what_an_answer_proves_is_told_alike_with_and_without_http() {
    let (served, called) = (Stage::over_http(1).await, Stage::direct(1));
    let clock = ProcessClock::start(served.time.clone(), served.gate.clone(), 0);
    let options = HttpOptions {
        allow_insecure_loopback: true,
        ..HttpOptions::default()
    };
    let client = HttpAppCodes::new(&options, Arc::new(clock), Arc::default()).unwrap();
    let direct = DirectAppCodes {
        stage: Arc::clone(&called),
    };
    for reply in answers(&called) {
        let real = proofs(&served, &client, &reply).await;
        assert_eq!(proofs(&called, &direct, &reply).await, real, "{reply:?}");
    }
}
