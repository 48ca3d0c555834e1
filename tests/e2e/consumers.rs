//! Programs that call an inference service with the code of a Secret, and note what became of each call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::cloud::Cloud;
use crate::player::{Moment, Watcher};

/// Pause of a consumer between two calls.
const PAUSE: Duration = Duration::from_millis(60);
/// How late a kubelet renews a file, in this play.
const RENEWAL: Duration = Duration::from_secs(1);

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The pod that made it, or `reader`.
    pub by: String,
    /// The code that was sent.
    pub code: String,
    /// Before it was sent, by this machine's clock, as the cloud's.
    pub at: Timestamp,
    /// After it was answered.
    pub until: Timestamp,
    /// HTTP status of the answer; 0 if there was none.
    pub status: u16,
}

impl Call {
    pub fn is_failed(&self) -> bool {
        self.status != 200
    }
}

/// Where a pod has its code from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// Read once, when its containers start.
    Environment(String),
    /// Renewed by the kubelet.
    File(String),
}

impl Source {
    /// What the pod's own spec says.
    fn of(pod: &Pod) -> Option<Self> {
        let spec = pod.spec.as_ref()?;
        let env = spec.containers.iter().flat_map(|it| it.env.iter().flatten());
        let env = env.filter_map(|var| var.value_from.as_ref()?.secret_key_ref.as_ref());
        let files = spec.volumes.iter().flatten().filter_map(|it| it.secret.as_ref());
        let env = env.map(|reference| Self::Environment(reference.name.clone()));
        let files = files.filter_map(|file| Some(Self::File(file.secret_name.clone()?)));
        env.chain(files).next()
    }

    fn secret(&self) -> &str {
        match self {
            Self::Environment(name) | Self::File(name) => name,
        }
    }
}

/// What all consumers share.
#[derive(Clone)]
struct Shop {
    secrets: Api<Secret>,
    http: reqwest::Client,
    /// URL of the service.
    service: String,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Shop {
    /// The code in a Secret; waits for it, as a pod does that cannot start without.
    async fn code(&self, secret: &str) -> String {
        loop {
            let found = self.secrets.get_opt(secret).await.ok().flatten();
            let value = found.and_then(|secret| secret.data?.remove("appCode"));
            if let Some(code) = value.and_then(|value| String::from_utf8(value.0).ok()) {
                return code;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn call(&self, by: &str, code: &str) {
        let at = Timestamp::now();
        let request = self.http.post(&self.service).header("X-Apig-AppCode", code).body("{}");
        let status = request.send().await.map_or(0, |answer| answer.status().as_u16());
        let call = Call {
            by: by.to_owned(),
            code: code.to_owned(),
            at,
            until: Timestamp::now(),
            status,
        };
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(call);
    }

    /// A pod's life: it reads the code when it starts, calls once it is ready, and ends.
    async fn live(self, name: String, source: Source, mut moment: watch::Receiver<Moment>) {
        let mut code = self.code(source.secret()).await;
        let mut renewed = Instant::now();
        if moment.wait_for(|now| *now != Moment::Started).await.is_err() {
            return;
        }
        while *moment.borrow() == Moment::Ready {
            if matches!(source, Source::File(_)) && renewed.elapsed() >= RENEWAL {
                code = self.code(source.secret()).await;
                renewed = Instant::now();
            }
            self.call(&name, &code).await;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// The consumers of a namespace. They end when this is dropped.
pub struct Consumers {
    shop: Shop,
    pods: Option<mpsc::UnboundedSender<(Moment, Pod)>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Consumers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Consumers {
    /// Consumers that call `service`.
    pub fn of(client: Client, namespace: &str, cloud: &Cloud, service: &str) -> Self {
        let shop = Shop {
            secrets: Api::namespaced(client, namespace),
            http: reqwest::Client::builder().no_proxy().build().expect("a client is made"),
            service: format!("{}/v1/infers/{service}", cloud.url()),
            calls: Arc::default(),
        };
        let (pods, mut told) = mpsc::unbounded_channel::<(Moment, Pod)>();
        let opened = shop.clone();
        let lives = tokio::spawn(async move {
            let mut lives = tokio::task::JoinSet::new();
            let mut moments = BTreeMap::new();
            while let Some((moment, pod)) = told.recv().await {
                let name = pod.metadata.name.clone().unwrap_or_default();
                let uid = pod.metadata.uid.clone().unwrap_or_default();
                if moment == Moment::Started {
                    let (say, hear) = watch::channel(moment);
                    moments.insert(uid, say);
                    if let Some(source) = Source::of(&pod) {
                        lives.spawn(opened.clone().live(name, source, hear));
                    }
                } else if let Some(say) = moments.get(&uid) {
                    say.send_replace(moment);
                }
            }
        });
        Self {
            shop,
            pods: Some(pods),
            tasks: vec![lives],
        }
    }

    /// Makes a consumer of each pod that a player tells of.
    pub fn watcher(&mut self) -> Watcher {
        let pods = self.pods.take().expect("one player at a time");
        Box::new(move |moment, pod| {
            // None is left when the test ends.
            drop(pods.send((moment, pod.clone())));
        })
    }

    /// Starts a consumer that reads the Secret from the API server for each call.
    pub fn start_reader(&mut self, secret: &str) {
        let (shop, secret) = (self.shop.clone(), secret.to_owned());
        self.tasks.push(tokio::spawn(async move {
            loop {
                let code = shop.code(&secret).await;
                shop.call(&format!("reader of {secret}"), &code).await;
                tokio::time::sleep(PAUSE).await;
            }
        }));
    }

    /// Every call so far, in the order of their answers.
    pub fn calls(&self) -> Vec<Call> {
        self.shop.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those that failed.
    pub fn failures(&self) -> Vec<Call> {
        self.calls().into_iter().filter(Call::is_failed).collect()
    }
}
