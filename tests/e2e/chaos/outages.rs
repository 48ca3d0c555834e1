//! What the operator depends on goes away for a time, each thing in its own way, while rotations are asked for.

use std::time::{Duration, Instant};

use cloud_simulator::Fault;
use rand::RngExt;
use tokio::time::sleep;

use super::fleet::Fleet;
use super::wire::{Mode, Wire};

/// Rotations begin for so long at most before something is taken away.
const LEAD: Duration = Duration::from_secs(2);
/// How long each state of a flapping cloud lasts at most.
const FLAP: Duration = Duration::from_millis(600);

impl Fleet {
    /// etcd is killed and started again; the API server answers with errors meanwhile, or not at all. Then who reaches it
    /// by `wires` is cut off, and the cluster goes on and forgets what its watch has not seen. Last the server itself is away.
    pub async fn without_store_past_and_server(&mut self, wires: &[&Wire], time: Duration) {
        let traffic = self.traffic();
        self.pause(LEAD).await;
        self.stage.plane.stop_etcd();
        sleep(time).await;
        self.stage.plane.start_etcd().await.unwrap();
        self.pause(LEAD).await;
        set(wires, Mode::Cut);
        sleep(time).await;
        self.stage.plane.compact_etcd().await.unwrap();
        // A server that has just started remembers nothing from before the compaction.
        self.stage.plane.stop_api_server();
        set(wires, Mode::Pass);
        sleep(time).await;
        self.stage.plane.start_api_server().await.unwrap();
        drop(traffic);
        self.judge(0).await;
    }

    /// etcd is full: the API server reads as ever, and each write fails.
    pub async fn without_room(&mut self, time: Duration) {
        let traffic = self.traffic();
        self.pause(LEAD).await;
        self.stage.plane.set_etcd_full(true).await.unwrap();
        sleep(time).await;
        self.stage.plane.set_etcd_full(false).await.unwrap();
        drop(traffic);
        self.judge(0).await;
    }

    /// Connections to the API server do not work, in one of the ways in which they do not.
    pub async fn without_network(&mut self, wires: &[&Wire], mode: Mode, time: Duration) {
        let traffic = self.traffic();
        self.pause(LEAD).await;
        set(wires, mode);
        sleep(time).await;
        set(wires, Mode::Pass);
        drop(traffic);
        self.judge(0).await;
    }

    /// The cloud closes every connection, and then it answers none. Then it works for a moment and fails for a moment,
    /// before or after its work.
    pub async fn without_cloud(&mut self, time: Duration) {
        let traffic = self.traffic();
        self.pause(LEAD).await;
        for mode in [Mode::Cut, Mode::BlackHole] {
            self.wire.set(mode);
            sleep(time / 2).await;
        }
        self.wire.set(Mode::Pass);
        let start = Instant::now();
        while start.elapsed() < time {
            self.pause(FLAP).await;
            let failures = [
                Fault::cut_before(),
                Fault::cut_after(),
                Fault::cut_in_answer(),
                Fault::status_before(503),
                Fault::status_after(502),
            ];
            let failure = failures[self.random.random_range(0..failures.len())].clone();
            let flap = self.stage.cloud.inject(failure);
            self.pause(FLAP).await;
            self.stage.cloud.clear(flap);
        }
        drop(traffic);
        self.judge(0).await;
    }
}

fn set(wires: &[&Wire], mode: Mode) {
    for wire in wires {
        wire.set(mode);
    }
}
