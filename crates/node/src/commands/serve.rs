//! `everfold serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use clap::ArgGroup;
use everfold::cluster::Identity;
use everfold::engine::World;
use everfold::engine::world::System;
use everfold::{Node, NodeOptions};

use crate::member::{self, Member};
use crate::place::{Choice, ENVIRONMENT, Parser, Place, Reached};
use crate::store::{self, Form};
use crate::{production, serve};

/// Serves an application on a directory or a database over HTTP, with a page to look into it, until
/// Ctrl-C.
///
/// Only this machine can reach the page: there is no authentication. With --identity it is one of
/// many nodes on one database, which share the work and take it over from each other.
#[derive(clap::Args)]
#[command(group(ArgGroup::new("place").required(true).multiple(true).args(["data", "engine"])))]
pub struct Arguments {
    /// Directory of the store; made if it is absent
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Database to keep the store in instead, postgres://user:password@host/database?schema=NAME,
    /// whose schema is made if it is absent; or postgres for a private server, started from the
    /// installed binaries, in the directory's folder postgres
    #[arg(long, value_name = "ADDRESS", env = ENVIRONMENT, hide_env_values = true, value_parser = Parser)]
    engine: Option<Choice>,
    /// Address to listen on; the next free port if it is taken, any free port for port 0
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4600")]
    listen: SocketAddr,
    /// Who decides on orders. A directory that was filled in one form may be opened in the other:
    /// it goes through all orders again, decides those that are pending, and leaves as they are
    /// those that are decided. For such an order it may reserve credit anew, and give it back
    #[arg(long, value_enum, default_value_t)]
    form: Form,
    /// The application to serve
    #[arg(long, value_enum, default_value_t, hide_possible_values = false)]
    application: Served,
    #[command(flatten)]
    member: Member,
    /// Refuse to serve from where an acknowledged event could be lost; `everfold doctor` says more
    #[arg(long)]
    production: bool,
}

/// Runs it.
///
/// # Errors
/// See the messages.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    // Before anything is made or opened.
    serve::check(arguments.listen)?;
    let place = Place::named(arguments.engine.as_ref(), arguments.data.as_deref())?;
    let reached = Reached::to_write(place)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(serve_from(&arguments, &reached))?;
    drop(runtime);
    reached.close()
}

async fn serve_from(arguments: &Arguments, reached: &Reached) -> anyhow::Result<()> {
    let world: Arc<dyn World> = System::current();
    let engine = match &arguments.member.identity {
        Some(identity) => {
            // What is wrong here is not to be found out after a wait.
            Identity::from_folder(identity)?;
            reached.open_patiently(world.clone()).await?
        }
        None => reached.open(world.clone()).await?,
    };
    if arguments.production
        && let Err(refused) = production::check(&engine.doctor())
    {
        engine.close().await;
        return Err(refused);
    }
    let application = match arguments.application {
        Served::Store => arguments.form.application(),
        Served::Ledger => everfold_ledger::application(),
        Served::Register => everfold_register::application(),
    };
    let api = |node: &Arc<Node>| match arguments.application {
        Served::Store => everfold_store::http::router(node.clone()),
        Served::Ledger | Served::Register => Router::new(),
    };
    if let Some(identity) = &arguments.member.identity {
        let member = &arguments.member;
        let clustered = member.join(identity, application, (engine, world)).await?;
        let api = api(clustered.node());
        let served = serve::serve(clustered.node().clone(), api, arguments.listen).await;
        return member::leave(clustered).await.and(served);
    }
    let name = application.name().to_owned();
    let alone = member::serve_alone(&name, &engine, &world, arguments.listen).await;
    let alone = match alone {
        Ok(alone) => alone,
        Err(refused) => {
            engine.close().await;
            return Err(refused);
        }
    };
    let node = store::open_on(application, engine, world, NodeOptions::default()).await?;
    let api = api(&node);
    let served = serve::serve(node.clone(), api, arguments.listen).await;
    if let Some(alone) = alone {
        alone.leave().await;
    }
    node.close().await;
    served
}

/// What can be served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Served {
    /// Customers with credit limits, and their orders
    #[default]
    Store,
    /// Accounts whose books balance
    Ledger,
    /// Registers that hold one number each, for `everfold chaos`
    Register,
}
