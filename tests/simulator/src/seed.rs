//! What a cloud starts with, as a file tells it.

use serde::{Deserialize, Serialize};

use crate::faults::{Fault, FaultId};
use crate::model::{App, AppType, Behaviour, Codes, NewApp, User};
use crate::simulator::Simulator;

/// A seed file. Names stand for the ids that the cloud will make.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Seed {
    /// Switches.
    pub behaviour: Option<Behaviour>,
    /// Accounts with their users.
    pub accounts: Vec<SeedAccount>,
    /// Apps.
    pub apps: Vec<SeedApp>,
    /// Faults in force from the start.
    pub faults: Vec<Fault>,
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeedAccount {
    /// Domain name.
    pub name: String,
    /// Regions with a project.
    #[serde(default = "default_projects")]
    pub projects: Vec<String>,
    /// How many workspaces there are besides `"0"`.
    #[serde(default)]
    pub workspaces: usize,
    /// Users.
    pub users: Vec<SeedUser>,
}

fn default_region() -> String {
    "cn-north-4".into()
}

fn default_projects() -> Vec<String> {
    vec![default_region()]
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeedUser {
    /// Name for sign-ins.
    pub name: String,
    /// Password for sign-ins.
    pub password: String,
}

/// An app.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeedApp {
    /// Name of its creator.
    pub user: String,
    /// Region of the creator's account.
    #[serde(default = "default_region")]
    pub project: String,
    /// Name.
    pub name: Option<String>,
    /// Remark.
    #[serde(default)]
    pub remark: String,
    /// Gateway.
    #[serde(default, rename = "type")]
    pub app_type: AppType,
    /// Codes: how many, or which.
    #[serde(default)]
    pub codes: Codes,
}

/// What came of a seed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Grown {
    /// Region and id of every project.
    pub projects: Vec<(String, String)>,
    /// Ids of the workspaces.
    pub workspaces: Vec<String>,
    /// Users with their keys.
    pub users: Vec<User>,
    /// Apps with their codes.
    pub apps: Vec<App>,
    /// Faults.
    pub faults: Vec<FaultId>,
}

impl Seed {
    /// One tenant with one app that has one code.
    pub fn demo() -> Self {
        let user = SeedUser {
            name: "demo".into(),
            password: "Passw0rd!of-the-demo".into(),
        };
        let account = SeedAccount {
            name: "demo-account".into(),
            projects: default_projects(),
            workspaces: 0,
            users: vec![user],
        };
        let app = SeedApp {
            user: "demo".into(),
            project: default_region(),
            name: Some("app_demo".into()),
            remark: "made for the demonstration".into(),
            app_type: AppType::Apig,
            codes: Codes::Count(1),
        };
        Self {
            accounts: vec![account],
            apps: vec![app],
            ..Self::default()
        }
    }

    /// Makes all of it.
    ///
    /// # Errors
    /// Where an app names a user or a project that the seed does not have.
    pub fn grow(self, simulator: &Simulator) -> Result<Grown, String> {
        let mut grown = Grown::default();
        let mut projects = Vec::new();
        if let Some(behaviour) = self.behaviour {
            simulator.behave(|present| *present = behaviour);
        }
        for account in self.accounts {
            let id = simulator.add_account(&account.name).account_id;
            for region in account.projects {
                let project = simulator.add_project(&id, &region);
                projects.push((id.clone(), region, project));
            }
            grown
                .workspaces
                .extend((0..account.workspaces).map(|_| simulator.add_workspace(&id)));
            let users = account
                .users
                .iter()
                .map(|user| simulator.add_user(&id, &user.name, &user.password));
            grown.users.extend(users);
        }
        for app in self.apps {
            let owner = grown.users.iter().find(|user| user.name == app.user);
            let owner = owner.ok_or_else(|| format!("an app names the user {}, whom no account has", app.user))?;
            let mut theirs = projects.iter().filter(|(account, _, _)| *account == owner.account_id);
            let project = theirs.find(|(_, region, _)| *region == app.project);
            let (_, _, project) = project.ok_or_else(|| format!("the account has no project in {}", app.project))?;
            let new = NewApp {
                app_name: app.name,
                app_remark: app.remark,
                app_type: app.app_type,
                codes: app.codes,
                ..NewApp::of(&owner.user_id, project)
            };
            grown.apps.push(simulator.create_app(new));
        }
        grown.faults = self.faults.into_iter().map(|fault| simulator.inject(fault)).collect();
        grown.projects = projects.into_iter().map(|(_, region, id)| (region, id)).collect();
        Ok(grown)
    }
}
