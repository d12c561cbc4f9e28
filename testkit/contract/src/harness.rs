//! What the suite asks of whoever brings an engine.

use std::sync::Arc;

use everfold_engine::engine::BoxFuture;
use everfold_engine::{Engine, World};

/// How many partitions a fresh log has.
pub const PARTITIONS: u16 = 4;

/// Which optional parts an engine has. Cases about the others do not apply, and are reported so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offers {
    /// What was acknowledged is still there when the log is opened again.
    pub durable: bool,
    /// [`Engine::read_entity`] is served.
    pub entities: bool,
}

impl Offers {
    /// Everything.
    pub const ALL: Offers = Offers {
        durable: true,
        entities: true,
    };
}

/// Makes logs to test.
pub trait Harness: Send + Sync {
    /// What is tested, for reports.
    fn name(&self) -> String;

    /// The world that the engines run in; the suite starts its tasks there.
    fn world(&self) -> Arc<dyn World>;

    /// Which optional parts there are.
    fn offers(&self) -> Offers;

    /// A new, empty log of [`PARTITIONS`] partitions that shares nothing with earlier ones. Smaller
    /// [limits](Engine::limits) than the usual ones make the suite faster; it needs 16 KiB an event,
    /// 64 KiB a unit, and 256 KiB and 64 records a batch.
    fn fresh(&self) -> BoxFuture<'_, Box<dyn Log>>;
}

/// How an opened log is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// [`Engine::close`] was called and has returned.
    Closed,
    /// The process vanished.
    Crashed,
}

/// One log, which can be opened again and again, once at a time.
pub trait Log: Send + Sync {
    /// Opens it as a starting process does.
    fn open(&self) -> BoxFuture<'_, Arc<dyn Engine>>;

    /// Leaves it and opens it again. By default a crash drops the engine without closing it; a
    /// harness that can do worse, such as killing a process or dropping unflushed writes, should.
    fn reopen(&self, engine: Arc<dyn Engine>, ending: Ending) -> BoxFuture<'_, Arc<dyn Engine>> {
        Box::pin(async move {
            if ending == Ending::Closed {
                engine.close().await;
            }
            drop(engine);
            self.open().await
        })
    }
}
