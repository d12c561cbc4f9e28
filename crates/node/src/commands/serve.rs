//! `everfold serve`.

use std::net::SocketAddr;
use std::path::PathBuf;

use everfold::NodeOptions;

use crate::demo::directory::log_in;
use crate::serve;
use crate::store::{self, Form};

/// Serves the store of a directory over HTTP, with a page to look into it, until Ctrl-C.
///
/// Only this machine can reach it: there is no authentication.
#[derive(clap::Args)]
pub struct Arguments {
    /// Directory of the store; made if it is absent
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Address to listen on; the next free port if it is taken, any free port for port 0
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4600")]
    listen: SocketAddr,
    /// Who decides on orders. A directory that was filled in one form may be opened in the other:
    /// it goes through all orders again, decides those that are pending, and leaves as they are
    /// those that are decided. For such an order it may reserve credit anew, and give it back
    #[arg(long, value_enum, default_value_t)]
    form: Form,
}

/// Runs it.
///
/// # Errors
/// See the messages.
pub fn run(arguments: Arguments) -> anyhow::Result<()> {
    // Before anything is made or opened.
    serve::check(arguments.listen)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let node = store::open_in(
            arguments.form,
            &log_in(&arguments.data),
            NodeOptions::default(),
        )
        .await?;
        let api = everfold_store::http::router(node.clone());
        let served = serve::serve(node.clone(), api, arguments.listen).await;
        node.close().await;
        served
    })
}
