//! Every flag with its environment variable, default, unit and effect; checked before anything starts.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};
use jiff::SignedDuration;
use secrecy::SecretString;

use crate::api::MANAGER;
use crate::controller::Settings;
use crate::endpoint::{Endpoint, EndpointRules};
use crate::identity::{Allowance, Identity};
use crate::leader::LeaseTimes;
use crate::modelarts::{Credentials, GuardOptions, HttpOptions};
use crate::plan::Limits;
use crate::validate::Rules;
use crate::verification::{VerificationHost, VerificationHosts};

/// Rotates app codes of Huawei Cloud ModelArts and keeps them in Kubernetes Secrets.
///
/// It watches AppCodeRotation resources, resets each code on its schedule or when asked, and writes the new code into a
/// Secret. It finds the API server by the service account of its pod or by KUBECONFIG. Durations are written as 90s,
/// 10m or 1h30m.
#[derive(Clone, Debug, Parser)]
#[command(version, max_term_width = 100)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a flag of its own, and none rules out another"
)]
pub struct Args {
    /// Namespace to serve; may be given several times. Default: all namespaces.
    #[arg(
        long = "watch-namespace",
        env = "APPCODE_WATCH_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAMESPACE"
    )]
    pub watch_namespaces: Vec<String>,

    /// Endpoint that resources may name in spec.endpoint, with the IAM endpoint that belongs to it, as
    /// MODELARTS_URL=IAM_URL; may be given several times. Regions need no entry.
    #[arg(long = "allow-endpoint", env = "APPCODE_ALLOW_ENDPOINTS", value_delimiter = ',', value_name = "PAIR", value_parser = pair)]
    pub allow_endpoints: Vec<Endpoint>,

    /// Host that resources may name in spec.verification.url, and so be shown their codes, as HOST or HOST:PORT (without
    /// a port: 443); may be given several times. Default: none, and a resource that asks for a verification is refused.
    #[arg(long, env = "APPCODE_VERIFICATION_HOSTS", value_delimiter = ',', value_name = "HOST", value_parser = host)]
    pub verification_hosts: Vec<VerificationHost>,

    /// Opens plain http to loopback endpoints and verification hosts on the allow-lists, for a simulated cloud on this
    /// machine. Never use it with a real one.
    #[arg(long, env = "APPCODE_ALLOW_INSECURE_LOOPBACK")]
    pub allow_insecure_loopback: bool,

    /// Directory with the operator's own credentials, in files named as the keys of a credentials Secret; read for each
    /// use. Without it HUAWEICLOUD_SDK_AK, HUAWEICLOUD_SDK_SK and HUAWEICLOUD_SDK_SECURITY_TOKEN count, if they are set.
    #[arg(long, env = "APPCODE_DEFAULT_CREDENTIALS_DIR", value_name = "DIRECTORY")]
    pub default_credentials_dir: Option<PathBuf>,

    /// A namespace whose resources may use the operator's own credentials, and for which app; may be given several times.
    #[arg(
        long = "allow-default-identity",
        env = "APPCODE_ALLOW_DEFAULT_IDENTITY",
        value_name = "NAMESPACE=APP_ID",
        value_delimiter = ','
    )]
    pub allow_default_identity: Vec<Allowance>,

    /// File with PEM certificates that are trusted for the cloud and for verification hosts besides those of the system.
    #[arg(long, env = "APPCODE_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,

    /// Proxy for every request to the cloud and to verification hosts. Proxy variables of the environment are not heeded.
    #[arg(long, env = "APPCODE_PROXY", value_name = "URL", hide_env_values = true)]
    pub proxy: Option<SecretString>,

    /// Shortest time between two rotations of one resource; must be longer than the settle window.
    #[arg(long, env = "APPCODE_MINIMUM_INTERVAL", default_value = "10m", value_name = "DURATION", value_parser = duration)]
    pub minimum_interval: SignedDuration,

    /// Most rotations of one resource that may start within 24 hours; more than 1000 means any number.
    #[arg(long, env = "APPCODE_DAILY_BUDGET", default_value = "6", value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..))]
    pub daily_budget: u16,

    /// How far two agreeing readings must lie apart before it counts that a call had no effect; twice as far before a code
    /// is added once more. Other waits for an outcome are multiples of it. Must be longer than the request deadline.
    #[arg(long, env = "APPCODE_SETTLE_WINDOW", default_value = "2m", value_name = "DURATION", value_parser = duration)]
    pub settle_window: SignedDuration,

    /// How often a resource at rest is checked against the cloud; less often where half of the call rate does not allow that
    /// for so many resources.
    #[arg(long, env = "APPCODE_CHECK_PERIOD", default_value = "1h", value_name = "DURATION", value_parser = duration)]
    pub check_period: SignedDuration,

    /// Longest time for one request to the cloud.
    #[arg(long, env = "APPCODE_REQUEST_DEADLINE", default_value = "30s", value_name = "DURATION", value_parser = duration)]
    pub request_deadline: SignedDuration,

    /// Longest time for name lookup, connect and TLS handshake with the cloud or a verification host; must be shorter than the request deadline.
    #[arg(long, env = "APPCODE_CONNECT_TIMEOUT", default_value = "5s", value_name = "DURATION", value_parser = duration)]
    pub connect_timeout: SignedDuration,

    /// Calls on the cloud per second with one credentials Secret.
    #[arg(long, env = "APPCODE_CALLER_RATE", default_value_t = 0.8, value_name = "PER_SECOND")]
    pub caller_rate: f64,

    /// Calls on the cloud per second over all.
    #[arg(long, env = "APPCODE_TOTAL_RATE", default_value_t = 10.0, value_name = "PER_SECOND")]
    pub total_rate: f64,

    /// Resources that are worked on at a time.
    #[arg(long, env = "APPCODE_CONCURRENCY", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub concurrency: u16,

    /// Refuses spec.statusCode: Plaintext, so that no code ever stands in a status.
    #[arg(long, env = "APPCODE_FORBID_PLAINTEXT_STATUS")]
    pub forbid_plaintext_status: bool,

    /// Longest time for one request to the API server.
    #[arg(long, env = "APPCODE_API_DEADLINE", default_value = "15s", value_name = "DURATION", value_parser = duration)]
    pub api_deadline: SignedDuration,

    /// Longest time for one request of the watch on resources; the next one follows. A watch that has had no answer for
    /// three times as long counts as stuck. At most 10m, so that alerts tell a quiet watch from a dead one.
    #[arg(long, env = "APPCODE_WATCH_REQUEST", default_value = "4m", value_name = "DURATION", value_parser = watch_request)]
    pub watch_request: SignedDuration,

    /// Watches the operator's own Secrets, by their label and without their values, so that one that somebody has edited or deleted is
    /// repaired within seconds and not at its next check. Needs the right to list and watch Secrets, which cannot be limited to a
    /// label nor to metadata: whoever has it may read them all.
    #[arg(long, env = "APPCODE_WATCH_SECRETS")]
    pub watch_secrets: bool,

    /// Whether replicas elect a leader by a Lease, so that one works and the others stand by. Without it there must be one
    /// process only.
    #[arg(long, env = "APPCODE_LEADER_ELECTION", default_value_t = true, action = ArgAction::Set, value_name = "BOOL")]
    pub leader_election: bool,

    /// Name of the Lease.
    #[arg(
        long,
        env = "APPCODE_LEASE_NAME",
        default_value = "appcode-operator",
        value_name = "NAME"
    )]
    pub lease_name: String,

    /// Namespace of the Lease. Default: that of the pod, or of the kubeconfig's context.
    #[arg(long, env = "APPCODE_LEASE_NAMESPACE", value_name = "NAMESPACE")]
    pub lease_namespace: Option<String>,

    /// How long a Lease that is not renewed keeps other replicas from leading. It is renewed three times as often, and who
    /// cannot renew it stops after two thirds of this.
    #[arg(long, env = "APPCODE_LEASE_DURATION", default_value = "30s", value_name = "DURATION", value_parser = duration)]
    pub lease_duration: SignedDuration,

    /// Longest time for saving a code that is not in its Secret yet, once the process was asked to stop. The pod's
    /// terminationGracePeriodSeconds must be longer than this and the request deadline together.
    #[arg(long, env = "APPCODE_SHUTDOWN_GRACE", default_value = "25s", value_name = "DURATION", value_parser = duration)]
    pub shutdown_grace: SignedDuration,

    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "APPCODE_ADMIN_ADDRESS", default_value = "0.0.0.0:8080")]
    pub admin_address: SocketAddr,

    /// Resources that have series of their own in /metrics, with namespace and name: when the last rotation was and when the
    /// next one is due. If there are more, the oldest have them. 0 turns them off.
    #[arg(
        long,
        env = "APPCODE_RESOURCE_METRICS",
        default_value_t = 1000,
        value_name = "NUMBER"
    )]
    pub resource_metrics: u32,

    /// Asks another operator at its admin address whether it is ready, for a minute at most, and ends: with code 0 if it
    /// is. Changes nothing and needs no API server; for `helm test`.
    #[arg(long, env = "APPCODE_ASK_READY", value_name = "HOST:PORT")]
    pub ask_ready: Option<String>,

    /// How log lines are written.
    #[arg(long, env = "APPCODE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Json)]
    pub log_format: LogFormat,

    /// What is logged: a level, or targets with levels such as appcode_operator=debug. HTTP libraries are never logged
    /// below warn, since their lines may hold URLs.
    #[arg(long, env = "APPCODE_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,

    /// File whose first line is the filter instead, and stays so: it is looked at every five seconds, and a change counts at
    /// once. Without the file, or with nothing in it, --log counts.
    #[arg(long, env = "APPCODE_LOG_FROM", value_name = "FILE")]
    pub log_from: Option<PathBuf>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Flags that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// Somebody may use an identity that is not there.
    #[error(
        "--allow-default-identity needs credentials of the operator's own: --default-credentials-dir, or HUAWEICLOUD_SDK_AK and HUAWEICLOUD_SDK_SK"
    )]
    NoIdentity,
    /// A rule between two durations is broken.
    #[error("{longer} must be longer than {shorter}: {why}")]
    Order {
        /// The flag that must be longer.
        longer: &'static str,
        /// The flag that must be shorter.
        shorter: &'static str,
        /// The reason.
        why: &'static str,
    },
    /// A rate is not a positive number.
    #[error("{0} must be above zero")]
    Rate(&'static str),
    /// An entry of the allow-list could never be used.
    #[error("--allow-endpoint: {0}")]
    Endpoint(#[from] crate::endpoint::EndpointError),
    /// The extra certificates cannot be read.
    #[error("--ca-file cannot be read: {0}")]
    CaFile(String),
}

fn pair(text: &str) -> Result<Endpoint, String> {
    Endpoint::parse_pair(text).map_err(|error| error.to_string())
}

fn host(text: &str) -> Result<VerificationHost, String> {
    VerificationHost::parse(text).map_err(|error| error.to_string())
}

fn duration(text: &str) -> Result<SignedDuration, String> {
    let time: SignedDuration = text
        .parse()
        .map_err(|_| "write a duration such as 90s, 10m or 1h30m".to_owned())?;
    if time.is_positive() {
        Ok(time)
    } else {
        Err("must be longer than zero".to_owned())
    }
}

/// The alert on a silent watch waits for longer than the longest.
fn watch_request(text: &str) -> Result<SignedDuration, String> {
    let most = SignedDuration::from_mins(10);
    let fits = |time: &SignedDuration| *time <= most;
    duration(text).and_then(|time| Some(time).filter(fits).ok_or_else(|| "must be at most 10m".to_owned()))
}

/// Name of the pod, as its manifest or the container runtime tells it.
fn instance(variable: impl Fn(&str) -> Option<String>) -> String {
    let names = ["POD_NAME", "HOSTNAME"].into_iter().filter_map(variable);
    let name = names
        .map(|name| name.trim().chars().take(128).collect())
        .find(|name: &String| !name.is_empty());
    name.unwrap_or_else(|| MANAGER.to_owned())
}

impl Args {
    /// What the controller works with.
    ///
    /// # Errors
    /// When flags contradict each other.
    pub fn settings(&self) -> Result<Settings, ArgsError> {
        let order = |long: SignedDuration, short: SignedDuration, longer, shorter, why| {
            if long > short {
                Ok(())
            } else {
                Err(ArgsError::Order { longer, shorter, why })
            }
        };
        let late = "a call must not take effect after it was found to have had none";
        order(
            self.settle_window,
            self.request_deadline,
            "--settle-window",
            "--request-deadline",
            late,
        )?;
        let again = "the outcome of one rotation must be clear before the next one";
        order(
            self.minimum_interval,
            self.settle_window,
            "--minimum-interval",
            "--settle-window",
            again,
        )?;
        let told = "a connection that never came about must be told from an answer that never came";
        order(
            self.request_deadline,
            self.connect_timeout,
            "--request-deadline",
            "--connect-timeout",
            told,
        )?;
        for (rate, name) in [(self.caller_rate, "--caller-rate"), (self.total_rate, "--total-rate")] {
            if !(rate.is_finite() && rate > 0.0) {
                return Err(ArgsError::Rate(name));
            }
        }
        let endpoints = EndpointRules {
            allowed: self.allow_endpoints.clone(),
            allow_insecure_loopback: self.allow_insecure_loopback,
        };
        endpoints.validate()?;
        let identity = self.identity(|name| std::env::var(name).ok());
        if !self.allow_default_identity.is_empty() && matches!(identity, Identity::None) {
            return Err(ArgsError::NoIdentity);
        }
        Ok(Settings {
            identity,
            limits: Limits {
                settle_window: self.settle_window,
                minimum_interval: self.minimum_interval,
                daily_budget: usize::from(self.daily_budget),
                check_period: self.check_period,
            },
            rules: Rules {
                endpoints,
                verification_hosts: VerificationHosts {
                    allowed: self.verification_hosts.clone(),
                    allow_insecure_loopback: self.allow_insecure_loopback,
                },
                minimum_interval: self.minimum_interval,
                daily_budget: usize::from(self.daily_budget),
                forbid_plaintext: self.forbid_plaintext_status,
                allowances: self.allow_default_identity.clone(),
            },
            namespaces: self.watch_namespaces.clone(),
            concurrency: usize::from(self.concurrency),
            grace: self.shutdown_grace.unsigned_abs(),
            prompt: self.prompt(),
            watch_request: self.watch_request.unsigned_abs(),
            watch_secrets: self.watch_secrets,
            resource_metrics: usize::try_from(self.resource_metrics).unwrap_or(usize::MAX),
            instance: instance(|name| std::env::var(name).ok()),
        })
    }

    /// The operator's own credentials. They stand in no flag: a command line can be read by others.
    fn identity(&self, variable: impl Fn(&str) -> Option<String>) -> Identity {
        if let Some(directory) = &self.default_credentials_dir {
            return Identity::Directory(directory.clone());
        }
        let field = |key: &str| {
            variable(match key {
                "accessKey" => "HUAWEICLOUD_SDK_AK",
                "secretKey" => "HUAWEICLOUD_SDK_SK",
                "securityToken" => "HUAWEICLOUD_SDK_SECURITY_TOKEN",
                _ => return None,
            })
        };
        Credentials::from_fields(field).map_or(Identity::None, Identity::Fixed)
    }

    /// Latest start of a call after its mark, and latest sending after its start. Both and the request deadline together
    /// stay inside the settle window of whoever sees the mark.
    fn prompt(&self) -> Duration {
        let slack = self.settle_window.saturating_sub(self.request_deadline).unsigned_abs();
        Duration::from_secs(20).min(slack / 4)
    }

    /// How the cloud's client connects.
    ///
    /// # Errors
    /// When the file with extra certificates cannot be read.
    pub fn http_options(&self) -> Result<HttpOptions, ArgsError> {
        let read = |file| std::fs::read(file).map_err(|error| ArgsError::CaFile(error.to_string()));
        Ok(HttpOptions {
            connect_timeout: self.connect_timeout.unsigned_abs(),
            request_deadline: self.request_deadline.unsigned_abs(),
            send_within: self.prompt(),
            extra_ca_pem: self.ca_file.as_ref().map(read).transpose()?,
            proxy: self.proxy.clone(),
            allow_insecure_loopback: self.allow_insecure_loopback,
            ..HttpOptions::default()
        })
    }

    /// The times of the election.
    pub fn lease_times(&self) -> LeaseTimes {
        // The Lease tells whole seconds, and not less than one.
        let seconds = self.lease_duration.unsigned_abs().as_secs().max(1);
        LeaseTimes {
            duration: Duration::from_secs(seconds),
        }
    }

    /// How fast the cloud is called.
    pub fn guard_options(&self) -> GuardOptions {
        GuardOptions {
            per_caller_rate: self.caller_rate,
            global_rate: self.total_rate,
            workers: usize::from(self.concurrency),
            ..GuardOptions::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(flags: &[&str]) -> Args {
        Args::try_parse_from(std::iter::once("appcode-operator").chain(flags.iter().copied())).unwrap()
    }

    #[test]
    fn a_watch_request_is_no_longer_than_alerts_take_for_quiet() {
        assert_eq!(watch_request("10m"), Ok(SignedDuration::from_mins(10)));
        assert_eq!(watch_request("10m1s"), Err("must be at most 10m".to_owned()));
        assert!(watch_request("0s").is_err());
        Args::try_parse_from(["operator", "--watch-request=11m"]).unwrap_err();
    }

    #[test]
    fn the_defaults_agree_with_each_other() {
        let settings = args(&[]).settings().unwrap();
        assert!(settings.limits.minimum_interval > settings.limits.settle_window);
        assert!(settings.rules.endpoints.allowed.is_empty());
    }

    #[test]
    fn a_settle_window_that_could_miss_a_late_effect_is_refused() {
        let error = args(&["--settle-window=20s"]).settings().unwrap_err().to_string();
        assert!(error.contains("--request-deadline"), "{error}");
        assert!(args(&["--minimum-interval=1m"]).settings().is_err());
        assert!(args(&["--caller-rate=0"]).settings().is_err());
    }

    #[test]
    fn a_call_that_starts_as_late_as_it_may_ends_inside_the_settle_window() {
        for (window, deadline) in [("2m", "30s"), ("31s", "30s"), ("1h", "10s"), ("6s", "2s")] {
            let flags = [
                format!("--settle-window={window}"),
                format!("--request-deadline={deadline}"),
            ];
            let args = args(&[&flags[0], &flags[1], "--connect-timeout=1s", "--minimum-interval=2h"]);
            let (settings, http) = (args.settings().unwrap(), args.http_options().unwrap());
            let end = settings.prompt + http.send_within + http.request_deadline;
            assert!(
                end < settings.limits.settle_window.unsigned_abs(),
                "{window} {deadline}"
            );
            assert!(settings.prompt > Duration::ZERO && http.send_within > Duration::ZERO);
        }
    }

    #[test]
    fn the_operators_own_keys_come_from_the_variables_of_the_vendors_sdk_and_a_directory_goes_before() {
        let variable = |name: &str| match name {
            "HUAWEICLOUD_SDK_AK" => Some("canary-key".to_owned()),
            "HUAWEICLOUD_SDK_SK" => Some("canary-secret".to_owned()),
            _ => None,
        };
        let identity = args(&[]).identity(variable);
        let caller = identity.caller().unwrap();
        assert!(
            matches!(&caller.credentials, Credentials::Keys { access_key, security_token: None, .. } if access_key == "canary-key")
        );
        assert!(!format!("{identity:?}{caller:?}").contains("canary"));
        assert!(matches!(args(&[]).identity(|_| None), Identity::None));
        let directory = args(&["--default-credentials-dir=/somewhere"]);
        assert!(matches!(directory.identity(variable), Identity::Directory(_)));
    }

    #[test]
    fn the_pod_is_named_by_its_manifest_or_its_host_name() {
        let of = |pairs: &[(&str, &str)]| {
            instance(|name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.to_owned()))
        };
        assert_eq!(of(&[("POD_NAME", "pod"), ("HOSTNAME", "host")]), "pod");
        assert_eq!(of(&[("POD_NAME", ""), ("HOSTNAME", "host")]), "host");
        assert_eq!(of(&[]), MANAGER);
        assert_eq!(of(&[("HOSTNAME", &"x".repeat(200))]).len(), 128);
    }

    #[test]
    fn no_password_of_a_proxy_shows() {
        let args = args(&["--proxy=http://user:canary@proxy"]);
        let shown = format!("{args:?}{:?}", args.http_options().unwrap());
        assert!(!shown.contains("canary"), "{shown}");
    }

    #[test]
    fn plain_http_needs_its_flag() {
        let pair = "--allow-endpoint=http://127.0.0.1:1=http://127.0.0.1:2";
        assert!(args(&[pair]).settings().is_err());
        assert!(args(&[pair, "--allow-insecure-loopback"]).settings().is_ok());
    }

    #[test]
    fn verification_hosts_are_a_list_and_none_by_default() {
        let hosts = |flags: &[&str]| args(flags).settings().unwrap().rules.verification_hosts;
        assert_eq!(hosts(&[]), VerificationHosts::default());
        let listed = hosts(&[
            "--verification-hosts=a.example,B.example:8443",
            "--verification-hosts=[::1]",
        ]);
        let expected =
            ["a.example:443", "b.example:8443", "[::1]:443"].map(|text| VerificationHost::parse(text).unwrap());
        assert_eq!(listed.allowed, expected);
        for wrong in [
            "",
            "*.example.com",
            "https://a.example",
            "a.example,",
            "a.example/x",
            "2130706433",
        ] {
            let flag = format!("--verification-hosts={wrong}");
            assert!(Args::try_parse_from(["appcode-operator", &flag]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_flag_says_what_it_does_and_has_a_variable() {
        use clap::CommandFactory;
        for arg in Args::command()
            .get_arguments()
            .filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
        {
            assert!(arg.get_help().is_some(), "{}", arg.get_id());
            assert!(
                arg.get_env()
                    .is_some_and(|name| name.to_string_lossy().starts_with("APPCODE_")),
                "{}",
                arg.get_id()
            );
        }
    }
}
