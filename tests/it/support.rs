//! What the tests stand on: an API server in memory, a cloud, a clock that is moved by hand, and the real controller
//! between them.

pub mod api_server;
pub mod clock;
pub mod cloud;
pub mod judge;
pub mod script;
pub mod stage;
pub mod world;

pub use self::stage::Stage;
pub use self::world::World;
