//! What an application brings to be proven.

use std::future::Future;
use std::sync::Arc;

use everfold::Application;
use everfold::engine::Record;
use everfold_sim::Random;

use crate::check::Ended;
use crate::client::Client;

pub mod accounts;

/// An application, and what clients do with it.
///
/// About a page of code: the example of this crate's front page is complete. The world brings
/// nodes, network, disks, clocks, faults and the checkers of everything that Everfold promises; a
/// workload adds what its own domain promises, in three places: where a client has looked at
/// something ([`Client::require`]), at every prefix of the log ([`Workload::auditor`]), and at the
/// end ([`Workload::check`]).
///
/// One value serves many runs at once, so it holds nothing of a run.
pub trait Workload: Send + Sync + 'static {
    /// Its name, for people and for the command line.
    fn name(&self) -> &'static str;

    /// The application, made anew for every node that is opened. What may differ from run to run, a
    /// deadline for example, is drawn from `random`, which is the same for all nodes of a run.
    fn application(&self, random: Random) -> Application;

    /// One random operation of a client. Ids should be drawn from few, so that operations meet.
    /// Everything random comes from [`Client::random`].
    fn operate(&self, client: &mut Client) -> impl Future<Output = ()> + Send;

    /// What is done once before the clients begin, to have something to work with.
    fn prepare(&self, client: &mut Client) -> impl Future<Output = ()> + Send {
        let _ = client;
        async {}
    }

    /// Looks at every whole unit of the log in order, and says at which the domain's rules no longer
    /// hold: "the books are balanced at every position".
    fn auditor(&self) -> Option<Box<dyn Auditor>> {
        None
    }

    /// Looks at the log and the views of the run when it is over.
    ///
    /// # Errors
    /// What is wrong.
    fn check(&self, ended: &Ended) -> Result<(), String> {
        let _ = ended;
        Ok(())
    }
}

/// Checks every prefix of the log.
pub trait Auditor: Send {
    /// The log goes on by one unit: the records that one command led to, all events of it or one
    /// outcome. Units of all partitions come in the order of their first stamps, causes before
    /// effects.
    ///
    /// # Errors
    /// What does not hold after this unit.
    fn unit(&mut self, unit: &[Arc<Record>]) -> Result<(), String>;
}
