//! Inference services behind the gateway: which apps may call them, and with which codes.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Caller, Cloud};
use crate::wire::{Answer, Refusal};

/// An inference service with its one API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// 32 hex digits.
    pub service_id: String,
    /// The service's API on the gateway.
    pub api_id: String,
    /// Name.
    pub name: String,
    /// Its creator.
    pub user_id: String,
    /// Its project.
    pub project_id: String,
    /// Apps that may call it.
    pub apps: BTreeSet<String>,
}

impl Service {
    fn shown(&self) -> Value {
        json!({
            "api_id": self.api_id, "api_method": "ANY", "api_name": format!("api_{}", self.name), "api_remark": "",
            "auth_type": "APP", "predict_url": format!("/v1/infers/{}", self.service_id),
            "service_id": self.service_id, "service_name": self.name, "support_app_code": true,
        })
    }
}

impl Cloud {
    /// Makes a service that serves only the apps authorized for it. A service id that nobody registered serves every app.
    pub fn add_service(&mut self, user_id: &str, project_id: &str, name: &str) -> Service {
        let service = Service {
            service_id: self.new_id(),
            api_id: self.new_id(),
            name: name.to_owned(),
            user_id: user_id.to_owned(),
            project_id: project_id.to_owned(),
            apps: BTreeSet::new(),
        };
        self.services.insert(service.service_id.clone(), service.clone());
        service
    }

    /// Lets an app call a service. False if there is no such service.
    pub fn bind(&mut self, service_id: &str, app_id: &str) -> bool {
        let service = self.services.get_mut(service_id);
        service.map(|service| service.apps.insert(app_id.to_owned())).is_some()
    }

    /// The HTTP status that a call of a service with a code gets now.
    pub fn infer_status(&self, now: Timestamp, service_id: &str, code: &str) -> u16 {
        self.infer(now, service_id, Some(code))
            .map_or_else(|refusal| refusal.status, |answer| answer.status)
    }

    pub(super) fn infer(&self, now: Timestamp, service_id: &str, code: Option<&str>) -> Result<Answer, Refusal> {
        const PROBLEM: &str = "Incorrect app authentication information: ";
        let refused = |status, number, text: String| Refusal::gateway(status, "APIG", number, text);
        let unknown = |text: &str| refused(401, "0303", format!("{PROBLEM}{text}"));
        let code = code.ok_or_else(|| unknown("app code not found in the request"))?;
        let app = self
            .app_of_code(now, code)
            .ok_or_else(|| unknown("app not found with specified appCode"))?;
        if self
            .services
            .get(service_id)
            .is_some_and(|service| !service.apps.contains(app))
        {
            return Err(refused(
                403,
                "0304",
                "The app is not authorized to access the API".into(),
            ));
        }
        Ok(Answer::json(
            200,
            &json!({"service_id": service_id, "predictions": ["ok"]}),
        ))
    }

    pub(super) fn bound_apis(&self, app_id: &str, query: &super::ListQuery) -> Answer {
        let bound = self.services.values().filter(|service| service.apps.contains(app_id));
        let named = bound.filter(|service| {
            query
                .name
                .as_ref()
                .is_none_or(|part| service.name.contains(part.as_str()))
        });
        let mut services: Vec<&Service> = named.collect();
        services.sort_by(|one, other| one.name.cmp(&other.name));
        if query.descending {
            services.reverse();
        }
        let page: Vec<Value> = query.page(&services).map(|service| service.shown()).collect();
        Answer::json(
            200,
            &json!({"count": page.len(), "total_count": services.len(), "apis": page}),
        )
    }

    /// Binds apps to a service's API, or unbinds them; a part may fail while the call succeeds.
    pub(super) fn authorize(
        &mut self,
        caller: &Caller,
        (project, service_id, api_id): (&str, &str, &str),
        apps: &[String],
        bind: bool,
    ) -> Result<Answer, Refusal> {
        let number = "3935";
        let missing = || Refusal::service(404, number, format!("API {api_id} does not exist."));
        let service = self
            .services
            .get(service_id)
            .filter(|service| service.project_id == project);
        let service = service.ok_or_else(missing)?;
        if service.api_id != api_id {
            return Err(Refusal::service(
                403,
                "3936",
                format!("API {api_id} does not belong to service {service_id}."),
            ));
        }
        if service.user_id != caller.user_id {
            return Err(Refusal::service(
                403,
                "0108",
                "You are not authorized to perform the (authorize) operation.",
            ));
        }
        let mut results = Vec::new();
        for app_id in apps {
            let owned = self.apps.get(app_id).is_some_and(|app| app.user_id == caller.user_id);
            let auth_id = self.new_id();
            let done = match self.services.get_mut(service_id) {
                Some(service) if owned && bind => service.apps.insert(app_id.clone()),
                Some(service) if owned => service.apps.remove(app_id),
                _ => false,
            };
            let reason = match (done, owned) {
                (true, _) => String::new(),
                (false, true) => "the state is that already".into(),
                (false, false) => format!("Application {app_id} does not exist."),
            };
            let auth_id = if done { auth_id } else { String::new() };
            results.push(json!({
                "api_id": api_id, "app_id": app_id, "auth_id": auth_id, "reason": reason, "success": done,
            }));
        }
        let name = if bind { "auth_result" } else { "unauth_result" };
        Ok(Answer::json(200, &json!({name: results})))
    }
}
