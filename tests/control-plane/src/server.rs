//! kube-apiserver: how it is started, and started again.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::config::setting;
use crate::process::Program;
use crate::ready::{self, PORT_ATTEMPTS};
use crate::{Binaries, Error, Options};

const NAME: &str = "kube-apiserver";

#[derive(Debug)]
pub(crate) struct Server {
    running: Option<Program>,
    program: PathBuf,
    /// Every argument but the port.
    settings: Vec<OsString>,
    dir: PathBuf,
    url: String,
    port: u16,
    /// The administrator's token, for asking whether it is ready.
    token: String,
}

impl Server {
    /// Starts the server on a free port and waits until it is ready.
    pub(crate) async fn start(
        binaries: &Binaries,
        dir: &Path,
        settings: Vec<OsString>,
        token: String,
    ) -> Result<Self, Error> {
        let mut server = Self {
            running: None,
            program: binaries.apiserver.clone(),
            settings,
            dir: dir.to_path_buf(),
            url: String::new(),
            port: 0,
            token,
        };
        for _ in 0..PORT_ATTEMPTS {
            server.port = ready::free_port()?;
            server.url = format!("https://127.0.0.1:{}", server.port);
            if server.try_start().await? {
                return Ok(server);
            }
        }
        Err(Error::Ports { program: NAME })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) fn stop(&mut self) {
        self.running = None;
    }

    pub(crate) async fn start_again(&mut self) -> Result<(), Error> {
        for _ in 0..PORT_ATTEMPTS {
            if self.running.is_some() || self.try_start().await? {
                return Ok(());
            }
        }
        Err(Error::Ports { program: NAME })
    }

    /// Whether the administrator gets a good answer at `path` by a server that proves itself.
    pub(crate) async fn is_ok(&self, path: &str) -> bool {
        let Ok(authority) = self.authority() else { return false };
        let url = format!("{}{path}", self.url);
        let ask = async || {
            ready::client(Some(&authority))?
                .get(url)
                .bearer_auth(&self.token)
                .send()
                .await
        };
        ask().await.is_ok_and(|response| response.status().is_success())
    }

    /// The certificate authority that the server made for itself, as PEM.
    pub(crate) fn authority(&self) -> Result<String, Error> {
        let path = self.dir.join("certs/apiserver.crt");
        let chain = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let last = last_certificate(&chain);
        let last = last.ok_or_else(|| Error::Unexpected(format!("no whole certificate in {}", path.display())))?;
        Ok(last.to_owned())
    }

    /// Whether it started; if not, its port was taken.
    async fn try_start(&mut self) -> Result<bool, Error> {
        let mut command = Command::new(&self.program);
        command.arg(format!("--secure-port={}", self.port)).args(&self.settings);
        let mut program = Program::spawn(NAME, &command, self.dir.join("kube-apiserver.log"))?;
        match ready::wait(&mut program, || self.is_ok("/readyz")).await {
            Ok(()) => {
                self.running = Some(program);
                Ok(true)
            }
            Err(error) if ready::is_port_taken(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Every argument of the server but its port.
pub(crate) fn settings(dir: &Path, etcd: &str, options: &Options) -> Vec<OsString> {
    let key = dir.join("service-accounts.key");
    let mut settings: Vec<OsString> = vec![
        format!("--etcd-servers={etcd}").into(),
        "--bind-address=127.0.0.1".into(),
        // The service `kubernetes` must not send anyone to a loopback address.
        "--endpoint-reconciler-type=none".into(),
        "--service-cluster-ip-range=10.0.0.0/24".into(),
        "--authorization-mode=RBAC".into(),
        "--allow-privileged=true".into(),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        setting("service-account-key-file", &key),
        setting("service-account-signing-key-file", &key),
        setting("cert-dir", &dir.join("certs")),
        setting("token-auth-file", &dir.join("tokens.csv")),
    ];
    if options.audit {
        settings.push(setting("audit-policy-file", &dir.join("audit-policy.json")));
        settings.push(setting("audit-log-path", &dir.join("audit.log")));
        settings.push("--audit-log-mode=blocking".into());
    }
    settings.extend(options.extra_apiserver_args.iter().map(OsString::from));
    settings
}

/// The authority of a chain stands last. A file without its end is still being written.
fn last_certificate(chain: &str) -> Option<&str> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----\n";
    chain.ends_with(END).then_some(())?;
    chain.rfind(BEGIN).and_then(|at| chain.get(at..))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_last_certificate_of_a_whole_file_only() {
        let one = |body: &str| format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        let chain = one("leaf") + &one("authority");
        assert_eq!(last_certificate(&chain), Some(one("authority").as_str()));
        assert_eq!(last_certificate(&chain[..chain.len() - 5]), None);
        assert_eq!(last_certificate(""), None);
    }
}
