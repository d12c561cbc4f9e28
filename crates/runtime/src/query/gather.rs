//! One answer from the owners of all partitions.

use std::sync::Arc;
use std::time::Duration;

use everfold_engine::slot::Partition;
use everfold_engine::{Offset, Position};
use tokio::sync::oneshot;

use super::survey::{Asked, Entry, Page, Surveyor};
use crate::error::{CommandError, QueryError};
use crate::owner::{Envelope, Router};
use crate::remote::{Duty, Outcome, Remote, Tried, What};

/// Between two tries while a partition moves, or while a token is waited for.
const PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Where questions about entities are put.
#[derive(Clone)]
pub(crate) struct Source {
    pub(crate) router: Router,
    /// A client owns nothing.
    pub(crate) here: Option<Arc<Surveyor>>,
}

/// Entities of all partitions in the order of their ids.
pub(crate) struct Gathered {
    pub(crate) entries: Vec<Entry>,
    pub(crate) position: Position,
    pub(crate) more: bool,
}

impl Source {
    /// Asks the owner of every partition at once.
    pub(crate) async fn gather(
        &self,
        asked: Asked,
        after: Option<Position>,
        patience: Duration,
    ) -> Result<Gathered, QueryError> {
        let world = self.router.world();
        let mut position = self.router.start().clone();
        let token = after.unwrap_or_else(|| position.clone());
        token.check(&position)?;
        let until = world.elapsed() + patience;
        let most = asked.most as usize;
        let mut parts = Vec::new();
        for partition in self.router.layout().all() {
            let (tell, told) = oneshot::channel();
            let (source, asked, token) = (self.clone(), asked.clone(), token.offset(partition));
            let task = async move {
                let answer = source.part(partition, asked, token, until, &tell).await;
                let _ = tell.send(answer);
            };
            world.spawn("look at entities", Box::pin(task));
            parts.push((partition, told));
        }
        let (mut entries, mut more) = (Vec::new(), false);
        for (partition, told) in parts {
            let closed = Err(QueryError::Owner(CommandError::Closed));
            let page = told.await.unwrap_or(closed)?;
            position = position.with(partition, page.offset);
            more |= page.next.is_some();
            entries.extend(page.entries);
        }
        entries.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        more |= entries.len() > most;
        entries.truncate(most);
        Ok(Gathered {
            entries,
            position,
            more,
        })
    }

    /// The first entities of one partition, as many as are wanted.
    async fn part<T>(
        &self,
        at: Partition,
        mut asked: Asked,
        token: Offset,
        until: Duration,
        wanted: &oneshot::Sender<T>,
    ) -> Result<Page, QueryError> {
        let most = asked.most;
        let mut part = self.page(at, &asked, token, until).await?;
        while let Some(next) = part.next.take() {
            asked.above = Some(next);
            asked.most = most.saturating_sub(part.entries.len() as u32);
            if asked.most == 0 || wanted.is_closed() {
                part.next = asked.above;
                break;
            }
            let page = self.page(at, &asked, token, until).await?;
            part.entries.extend(page.entries);
            part.next = page.next;
        }
        Ok(part)
    }

    /// What the owner answers, whoever that is by then.
    async fn page(
        &self,
        at: Partition,
        asked: &Asked,
        token: Offset,
        until: Duration,
    ) -> Result<Page, QueryError> {
        let world = self.router.world();
        let mut pause = PAUSE;
        loop {
            let left = until.saturating_sub(world.elapsed());
            let answer = tokio::select! { biased;
                answer = self.once(at, asked, left) => answer,
                () = world.sleep(left) => Err(CommandError::Deadline),
            };
            let over = world.elapsed() >= until;
            match answer {
                Ok(page) if page.offset >= token => return Ok(page),
                Ok(page) if over => {
                    return Err(QueryError::NotReached {
                        partition: at,
                        behind: token.0 - page.offset.0,
                    });
                }
                Err(error) if over || !error.is_moving() => return Err(error.into()),
                _ => {}
            }
            world.sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// For somebody else: from here, or passed on.
    pub(crate) async fn answer(&self, at: Partition, asked: Asked) -> Result<Page, CommandError> {
        let patience = self.router.remote().map(|it| it.membership.patience);
        let until = self.router.world().elapsed() + patience.unwrap_or_default();
        let duty = |remote: &Arc<Remote>| remote.duty(at);
        if self
            .router
            .remote()
            .map(duty)
            .is_none_or(|duty| duty == Duty::Own)
        {
            return self.once(at, &asked, Duration::ZERO).await;
        }
        match self.page(at, &asked, Offset(0), until).await {
            Ok(page) => Ok(page),
            Err(QueryError::Owner(error)) => Err(error),
            Err(error) => Err(CommandError::Conflict(error.to_string())),
        }
    }

    async fn once(
        &self,
        at: Partition,
        asked: &Asked,
        left: Duration,
    ) -> Result<Page, CommandError> {
        let remote = self.router.remote();
        let Some(remote) = remote.filter(|remote| remote.duty(at) != Duty::Own) else {
            return match &self.here {
                Some(here) => here.look(at, asked.clone()).await,
                None => Err(CommandError::Closed),
            };
        };
        let what = What::Survey(asked.clone());
        let envelope = Envelope::default();
        let tried = remote.attempt(&self.router, at, &envelope, &what, left);
        match tried.await {
            Tried::Answered(response) => match response.outcome {
                Outcome::Surveyed(page) => Ok(page),
                Outcome::Failed(error) => Err(error),
                _ => Err(CommandError::Encoding(
                    "another node has answered something else than was asked".to_owned(),
                )),
            },
            Tried::Not(reason) | Tried::Perhaps(reason) => Err(CommandError::Unavailable {
                partition: at,
                reason,
            }),
        }
    }
}
