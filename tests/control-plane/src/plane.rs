use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use crate::config::{ADMIN, audit_policy, kubeconfig, random_token, token_line, write_json};
use crate::etcd::Etcd;
use crate::process::Program;
use crate::scratch::Scratch;
use crate::server::{self, Server};
use crate::{Binaries, Error, Identity, Options, manager};

/// A running control plane. Everything it started ends with it: on [`stop`](Self::stop), on drop, and when this process
/// ends in whatever way.
#[derive(Debug)]
pub struct ControlPlane {
    // Fields are dropped in this order: who calls goes before who is called, and the folder last.
    _manager: Option<Program>,
    server: Server,
    etcd: Etcd,
    binaries: Binaries,
    admin_kubeconfig: PathBuf,
    kubeconfigs: HashMap<String, PathBuf>,
    audit: bool,
    scratch: Scratch,
}

impl ControlPlane {
    /// Gets the programs if need be, starts them and waits until they answer: seconds, once the programs are there.
    pub async fn start(options: Options) -> Result<Self, Error> {
        let binaries = Binaries::obtain().await?;
        let scratch = Scratch::new_in(&env::temp_dir())?;
        let dir = scratch.path();
        make_key(&dir.join("service-accounts.key"))?;
        write_json(&dir.join("audit-policy.json"), &audit_policy())?;
        let admin_token = random_token()?;
        let mut tokens = token_line(&admin_token, &Identity::admin());
        let mut users = Vec::new();
        for identity in &options.identities {
            let token = random_token()?;
            tokens += &token_line(&token, identity);
            users.push((identity.user.clone(), token));
        }
        write(&dir.join("tokens.csv"), &tokens)?;

        let etcd = Etcd::start(&binaries, dir).await?;
        let settings = server::settings(dir, etcd.url(), &options);
        let server = Server::start(&binaries, dir, settings, admin_token.clone()).await?;

        let ca = server.authority()?;
        write(&dir.join("ca.crt"), &ca)?;
        let admin_kubeconfig = dir.join("admin.kubeconfig");
        write_json(&admin_kubeconfig, &kubeconfig(server.url(), &ca, ADMIN, &admin_token))?;
        let mut kubeconfigs = HashMap::from([(ADMIN.to_owned(), admin_kubeconfig.clone())]);
        for (number, (user, token)) in users.into_iter().enumerate() {
            // By number, as a user's name may hold anything.
            let path = dir.join(format!("identity-{number}.kubeconfig"));
            write_json(&path, &kubeconfig(server.url(), &ca, &user, &token))?;
            kubeconfigs.insert(user, path);
        }
        let manager = if options.controller_manager {
            Some(manager::start(&binaries, dir, &admin_kubeconfig, &server).await?)
        } else {
            None
        };
        let audit = options.audit;
        Ok(Self {
            _manager: manager,
            server,
            etcd,
            binaries,
            admin_kubeconfig,
            kubeconfigs,
            audit,
            scratch,
        })
    }

    /// Where the server listens: `https://127.0.0.1:<port>`.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// The release of the server and the paths of the programs.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The folder of everything that this control plane writes, logs included. It goes at the end.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// The kubeconfig of the administrator, who is in `system:masters`.
    pub fn admin_kubeconfig(&self) -> &Path {
        &self.admin_kubeconfig
    }

    /// The kubeconfig of one of [`Options::identities`], or of `admin`: whole in itself, with a token and the server's
    /// certificate authority.
    pub fn kubeconfig(&self, user: &str) -> Result<&Path, Error> {
        self.kubeconfigs
            .get(user)
            .map(PathBuf::as_path)
            .ok_or_else(|| Error::UnknownIdentity(user.to_owned()))
    }

    /// The audit log, if [`Options::audit`] asked for one: one JSON object a line, without bodies, for each answered
    /// request (and for each watch one at its start and one at its end). Written without buffering, but a moment after
    /// the answer went out.
    pub fn audit_log(&self) -> Option<PathBuf> {
        self.audit.then(|| self.dir().join("audit.log"))
    }

    /// kubectl as the administrator. Where it writes, give it `--validate=false`: a 1.20 server lacks what a current
    /// kubectl validates by.
    pub fn kubectl(&self) -> Command {
        self.kubectl_with(&self.admin_kubeconfig)
    }

    /// kubectl as one of [`Options::identities`].
    pub fn kubectl_as(&self, user: &str) -> Result<Command, Error> {
        Ok(self.kubectl_with(self.kubeconfig(user)?))
    }

    fn kubectl_with(&self, kubeconfig: &Path) -> Command {
        let mut command = Command::new(&self.binaries.kubectl);
        // kubectl remembers by address what a server offers, and another control plane may have had this port before.
        command
            .arg("--cache-dir")
            .arg(self.dir().join("kubectl-cache"))
            .env("KUBECONFIG", kubeconfig);
        command
    }

    /// Ends the server at once, as a crash would: connections break. etcd and the controller manager go on.
    pub fn stop_api_server(&mut self) {
        self.server.stop();
    }

    /// Starts the server again, on its old port and with its old data, and waits until it is ready. Does nothing while
    /// it runs.
    pub async fn start_api_server(&mut self) -> Result<(), Error> {
        self.server.start_again().await
    }

    /// Ends etcd at once, as a crash would. The server goes on and can neither read nor write.
    pub fn stop_etcd(&mut self) {
        self.etcd.stop();
    }

    /// Starts etcd again, on its old port and with its old data, and waits until it answers. The server needs a moment
    /// more to find it. Does nothing while it runs.
    pub async fn start_etcd(&mut self) -> Result<(), Error> {
        self.etcd.start_again().await
    }

    /// Makes etcd forget every revision but the present one. A server that runs still remembers some in its own memory;
    /// once it was started again, a watch from an older revision is answered with 410.
    pub async fn compact_etcd(&self) -> Result<(), Error> {
        self.etcd.compact().await
    }

    /// Makes etcd refuse every write as one without space does, or take them again. The server goes on to read.
    pub async fn set_etcd_full(&self, is_full: bool) -> Result<(), Error> {
        self.etcd.set_full(is_full).await
    }

    /// Ends everything. Dropping does the same, and blocks the thread for that moment.
    pub async fn stop(self) -> Result<(), Error> {
        let dropped = tokio::task::spawn_blocking(move || drop(self)).await;
        dropped.map_err(|error| Error::Unexpected(format!("the end of the control plane broke off: {error}")))
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(Error::file("write", path))
}

/// Makes the key that tokens of service accounts are signed with.
fn make_key(path: &Path) -> Result<(), Error> {
    let made = Command::new("openssl")
        .args(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"])
        .arg(path)
        .stdin(Stdio::null())
        .output();
    let hint = "apt-get install openssl";
    let made = made.map_err(|source| Error::Run {
        program: "openssl".to_owned(),
        hint,
        source,
    })?;
    if made.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    Err(Error::Unexpected(format!(
        "openssl made no key for service accounts: {said}"
    )))
}
