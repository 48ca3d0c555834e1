//! What the tests stand on: an API server in memory, a cloud, a clock that is moved by hand, and the real controller
//! between them.

pub mod api_server;
pub mod clock;
pub mod cloud;
pub mod gate;
pub mod invariant;
pub mod judge;
pub mod prober;
pub mod process;
pub mod relay;
pub mod script;
pub mod sight;
pub mod stage;
pub mod trace;
pub mod workloads;
pub mod world;

pub use self::stage::Stage;
pub use self::world::World;

/// Each run has a runtime of its own, so that what a crash leaves hanging ends with it.
pub fn alone<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run)
}
