//! Opening a store, or another application, on the log of a place.

use std::sync::Arc;

use everfold::engine::world::System;
use everfold::engine::{Engine, World};
use everfold::{Application, Inspector, Node, NodeOptions};
use everfold_ledger::account::Account;
use everfold_ledger::transit::Transit;

use crate::place::Reached;

/// Who leads an order from its placing to its decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// Nobody: customers and orders answer each other's events
    #[default]
    Choreography,
    /// A saga for each order, which `everfold sagas` shows
    Saga,
}

impl Form {
    /// The store in this form.
    pub fn application(self) -> Application {
        match self {
            Self::Choreography => everfold_store::application(),
            Self::Saga => everfold_store::orchestrated(),
        }
    }
}

/// Opens an application where its log was reached.
///
/// # Errors
/// The log is in use, damaged or away, or it is of another application.
pub async fn open(
    application: Application,
    reached: &Reached,
    options: NodeOptions,
) -> anyhow::Result<Arc<Node>> {
    let world: Arc<dyn World> = System::current();
    let engine = reached.open(world.clone()).await?;
    open_on(application, engine, world, options).await
}

/// The same on a log that is open.
///
/// # Errors
/// It is of another application, or somebody else's.
pub async fn open_on(
    application: Application,
    engine: Arc<dyn Engine>,
    world: Arc<dyn World>,
    options: NodeOptions,
) -> anyhow::Result<Arc<Node>> {
    match application.open_on(engine.clone(), world, options).await {
        Ok(node) => Ok(Arc::new(node)),
        Err(error) => {
            engine.close().await;
            Err(error.into())
        }
    }
}

/// Opens the store, or the ledger, to be looked at, also while another process has it open: nothing is changed.
///
/// # Errors
/// There is no log, or it is damaged.
pub async fn inspector(reached: &Reached) -> anyhow::Result<Inspector> {
    let log = reached.look().await?;
    // The form with a saga has all types of entities that any form has.
    let entities = everfold_store::orchestrated()
        .entity::<Account>()
        .entity::<Transit>();
    Ok(entities.inspector(log)?)
}
