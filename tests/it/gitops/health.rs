//! The rules by which tools tell the health of an object from what is on it. Pure.

use mlua::{Lua, LuaOptions, LuaSerdeExt, StdLib, Table};
use serde_json::Value;

/// The script for Argo CD.
pub const SCRIPT: &str = include_str!("../../../deploy/argocd/health.lua");

/// What kstatus makes of a custom resource, by its published rules
/// (<https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus>), which Flux goes by.
pub fn kstatus(object: &Value) -> &'static str {
    if object["metadata"]["deletionTimestamp"].is_string() {
        return "Terminating";
    }
    let generations = (
        object["metadata"]["generation"].as_i64(),
        object["status"]["observedGeneration"].as_i64(),
    );
    if let (Some(generation), Some(observed)) = generations
        && generation != observed
    {
        return "InProgress";
    }
    let conditions = object["status"]["conditions"].as_array();
    let conditions = || conditions.into_iter().flatten();
    for condition in conditions().filter(|condition| condition["status"] == "True") {
        match condition["type"].as_str() {
            Some("Reconciling") => return "InProgress",
            Some("Stalled") => return "Failed",
            _ => {}
        }
    }
    let ready = conditions().find(|condition| condition["type"] == "Ready");
    match ready.map(|ready| ready["status"] == "True") {
        Some(false) => "InProgress",
        // Without a condition that they know, the rules see nothing to wait for.
        Some(true) | None => "Current",
    }
}

/// The script in an interpreter of the language that Argo CD's own one speaks, with no more libraries than that gives.
pub struct Argo(Lua);

impl Argo {
    pub fn new() -> Self {
        let libraries = StdLib::TABLE | StdLib::STRING | StdLib::MATH;
        Self(Lua::new_with(libraries, LuaOptions::default()).unwrap())
    }

    /// Status and message.
    pub fn health(&self, object: &Value) -> (String, String) {
        // An absent field is nil for Argo CD; so is a null.
        let options = mlua::SerializeOptions::new()
            .serialize_none_to_null(false)
            .serialize_unit_to_null(false);
        let object = self.0.to_value_with(object, options).unwrap();
        self.0.globals().set("obj", object).unwrap();
        let health: Table = self.0.load(SCRIPT).set_name("health.lua").eval().unwrap();
        let known = ["Healthy", "Progressing", "Degraded", "Suspended", "Missing"];
        let status: String = health.get("status").unwrap();
        assert!(known.contains(&status.as_str()), "{status}");
        (status, health.get("message").unwrap())
    }
}
