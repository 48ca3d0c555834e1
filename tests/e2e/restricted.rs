//! The Pod Security Standard "restricted", rule by rule as the Kubernetes documentation lists them (those of "baseline" are
//! among them).

use serde_json::Value;

/// Volumes that the standard allows.
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// What a container says, or its pod where it says nothing.
fn said<'a>(pod: &'a Value, container: &'a Value, field: &str) -> &'a Value {
    match &container["securityContext"][field] {
        Value::Null => &pod["securityContext"][field],
        own => own,
    }
}

/// The rules that the spec of a pod breaks.
pub fn broken(pod: &Value) -> Vec<String> {
    let mut broken = Vec::new();
    let mut rule = |holds: bool, text: &str| {
        if !holds {
            broken.push(text.to_owned());
        }
    };
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        rule(!pod[field].as_bool().unwrap_or(false), field);
    }
    rule(pod["securityContext"]["sysctls"].is_null(), "sysctls");
    for volume in list(&pod["volumes"]) {
        let kinds = volume.as_object().unwrap().keys().filter(|key| *key != "name");
        kinds.for_each(|kind| rule(VOLUMES.contains(&kind.as_str()), kind));
    }
    for containers in ["containers", "initContainers", "ephemeralContainers"] {
        for container in list(&pod[containers]) {
            let own = &container["securityContext"];
            rule(!own["privileged"].as_bool().unwrap_or(false), "privileged");
            rule(own["allowPrivilegeEscalation"] == false, "allowPrivilegeEscalation");
            rule(
                list(&own["capabilities"]["drop"]).any(|name| name == "ALL"),
                "capabilities.drop",
            );
            rule(
                list(&own["capabilities"]["add"]).all(|name| name == "NET_BIND_SERVICE"),
                "capabilities.add",
            );
            rule(own["procMount"].is_null() || own["procMount"] == "Default", "procMount");
            rule(said(pod, container, "runAsNonRoot") == true, "runAsNonRoot");
            rule(said(pod, container, "runAsUser") != 0, "runAsUser");
            rule(said(pod, container, "windowsOptions").is_null(), "windowsOptions");
            rule(said(pod, container, "seLinuxOptions").is_null(), "seLinuxOptions");
            rule(said(pod, container, "appArmorProfile").is_null(), "appArmorProfile");
            let seccomp = &said(pod, container, "seccompProfile")["type"];
            rule(seccomp == "RuntimeDefault" || seccomp == "Localhost", "seccompProfile");
            rule(
                list(&container["ports"]).all(|port| port["hostPort"].is_null()),
                "hostPort",
            );
        }
    }
    broken
}
