//! A real Prometheus beside a stage, with the chart's alerts loaded.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::alerts;
use crate::stage::PATIENCE;

/// Ended when dropped.
pub struct Server {
    child: Child,
    /// Its configuration, its data and its log.
    folder: tempfile::TempDir,
    url: String,
    client: reqwest::Client,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Server {
    /// Starts one that scrapes the operator at `target` (`HOST:PORT`) each second. [`Server::scrape`] changes the target.
    pub async fn start(target: &str) -> Self {
        let programs = control_plane::Prometheus::obtain().await.expect("Prometheus is there");
        let folder = tempfile::tempdir().expect("a folder is made");
        let config = json!({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [alerts::file()],
            "scrape_configs": [{
                "job_name": "operator", "honor_labels": true,
                "file_sd_configs": [{"files": [folder.path().join("targets.json")], "refresh_interval": "1s"}],
            }],
        });
        let path = |name: &str| folder.path().join(name);
        // JSON is YAML.
        std::fs::write(path("prometheus.yml"), config.to_string()).expect("the configuration is written");
        let log = File::create(path("log")).expect("the log can be written");
        let child = Command::new("setpriv") // so that it ends with us, however we end
            .args(["--pdeathsig", "KILL"])
            .arg(programs.server)
            .arg(format!("--config.file={}", path("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", path("data").display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Prometheus starts");
        let client = reqwest::Client::builder().no_proxy().build().expect("a client is made");
        let mut server = Self {
            child,
            folder,
            url: String::new(),
            client,
        };
        server.scrape(target);
        server.url = format!("http://{}", server.address().await);
        server.ready().await;
        server
    }

    /// Has it scrape the operator at `target` from now on, in place of the one before.
    pub fn scrape(&self, target: &str) {
        let targets = json!([{"targets": [target], "labels": {"namespace": "appcode-system"}}]);
        let draft = self.folder.path().join("draft");
        std::fs::write(&draft, targets.to_string()).expect("the targets are written");
        std::fs::rename(draft, self.folder.path().join("targets.json")).expect("they take their place");
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The address that it has chosen, once it listens there.
    async fn address(&self) -> String {
        let start = Instant::now();
        loop {
            let log = std::fs::read_to_string(self.log()).expect("the log can be read");
            let told = log
                .lines()
                .find_map(|line| line.split_once("msg=\"Listening on\" address=").map(|(_, rest)| rest));
            if let Some(address) = told {
                return address.trim().to_owned();
            }
            assert!(start.elapsed() < PATIENCE, "Prometheus does not listen: {log}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// It listens before it can answer.
    async fn ready(&self) {
        let start = Instant::now();
        let url = format!("{}/-/ready", self.url);
        while !self
            .client
            .get(&url)
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            assert!(start.elapsed() < PATIENCE, "Prometheus does not get ready");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// What its HTTP API answers; panics where that is an error.
    pub async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let url = reqwest::Url::parse_with_params(&format!("{}/api/v1/{path}", self.url), parameters).expect("a URL");
        let answer = self.client.get(url).send().await.expect("Prometheus answers");
        let answer: Value = answer.json().await.expect("it answers in JSON");
        assert_eq!(answer["status"], "success", "{path} {parameters:?}: {answer}");
        answer["data"].clone()
    }

    /// The series that a query gives between two moments, in seconds since 1970.
    pub async fn range(&self, query: &str, from: i64, to: i64) -> Vec<Value> {
        let (from, to) = (from.to_string(), to.to_string());
        let parameters = [("query", query), ("start", &from), ("end", &to), ("step", "1")];
        let data = self.ask("query_range", &parameters).await;
        data["result"].as_array().expect("series").clone()
    }

    /// The series that a query gives now.
    pub async fn now(&self, query: &str) -> Vec<Value> {
        let data = self.ask("query", &[("query", query)]).await;
        data["result"].as_array().expect("series").clone()
    }
}
