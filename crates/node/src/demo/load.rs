//! Plays a purchase history: each customer's orders one after the other, many customers at once.
//!
//! Every step may be repeated: a run that was killed goes on from what the views show, and ends as
//! if it had never been interrupted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use everfold::engine::Timestamp;
use everfold::engine::world::new_id;
use everfold::{Command, Decide, EntityRef, Node, SendError, View};
use everfold_store::customer::{Customer, CustomerId, Open};
use everfold_store::money::Money;
use everfold_store::order::{
    Item, Order, OrderId, OrderRejection, OrderState, Pay, PaymentMethod, Place, Ship,
};
use everfold_store::views::{CustomerRow, OrderLine, customer_history};
use tokio::task::JoinSet;

use crate::demo::patience::answered;
use crate::purchases::{History, Purchase};

/// An answer that takes longer than this does not come any more.
const PATIENCE: Duration = Duration::from_secs(300);

/// How the history is played.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Every customer's limit.
    pub credit_limit: Money,
    /// When an approved order is paid.
    pub payment_days: u32,
    /// How many customers are played at once.
    pub concurrency: usize,
}

/// What was done.
#[derive(Default)]
pub struct Tally {
    /// Commands that were answered.
    pub commands: AtomicU64,
    /// Purchases that are decided, found or done.
    pub purchases: AtomicU64,
}

struct Loader {
    node: Arc<Node>,
    rules: Rules,
    last_day: Timestamp,
    /// The customers with the most purchases first: they take longest.
    customers: Vec<(CustomerId, Vec<Purchase>)>,
    next: AtomicUsize,
    history: View<CustomerId, CustomerRow>,
    tally: Arc<Tally>,
}

/// Plays all of a history. The node has to have caught up with what is there.
///
/// # Errors
/// A command that failed, or was refused against all rules.
pub async fn load(
    node: Arc<Node>,
    history: History,
    rules: Rules,
    tally: Arc<Tally>,
) -> anyhow::Result<()> {
    let customers = history.customers.into_iter();
    let mut customers: Vec<_> = customers
        .map(|(id, purchases)| (CustomerId::from(id), purchases))
        .collect();
    customers.sort_by_key(|(_, purchases)| std::cmp::Reverse(purchases.len()));
    let loader = Arc::new(Loader {
        node,
        rules,
        last_day: history.last_day,
        customers,
        next: AtomicUsize::new(0),
        history: customer_history(),
        tally,
    });
    let mut players = JoinSet::new();
    for _ in 0..rules.concurrency.max(1) {
        let loader = loader.clone();
        players.spawn(async move {
            while let Some((id, purchases)) = loader
                .customers
                .get(loader.next.fetch_add(1, Ordering::Relaxed))
            {
                let played = loader.play(id, purchases).await;
                played.with_context(|| format!("customer {id}"))?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(player) = players.join_next().await {
        player??;
    }
    Ok(())
}

/// A payment to be made.
struct Due<'a> {
    day: Timestamp,
    order: OrderId,
    total: Money,
    line: Option<&'a OrderLine>,
}

impl Loader {
    async fn play(&self, id: &CustomerId, purchases: &[Purchase]) -> anyhow::Result<()> {
        let Some(first) = purchases.first() else {
            return Ok(());
        };
        let row = self.node.view(&self.history).get(id).await?;
        if row.as_ref().is_none_or(|row| row.opened.is_none()) {
            let open = Open {
                name: format!("Customer {id}"),
                credit_limit: self.rules.credit_limit,
            };
            let customer = self.node.entity::<Customer>(id.clone());
            accepted(self.send(&customer, open, first.date).await)?;
        }
        let mut due = VecDeque::new();
        for purchase in purchases {
            self.pay(id, &mut due, purchase.date).await?;
            let order = OrderId::from(format!("o-{}", purchase.line));
            let line = row.as_ref().and_then(|row| row.orders.get(&order));
            let state = self.order(id, purchase, &order, line).await?;
            if state == OrderState::Shipped {
                let day = purchase.date.plus_days(self.rules.payment_days.into());
                let total = purchase.total;
                due.push_back(Due {
                    day,
                    order,
                    total,
                    line,
                });
            }
            self.tally.purchases.fetch_add(1, Ordering::Relaxed);
        }
        self.pay(id, &mut due, self.last_day).await
    }

    /// Makes the payments that are due by a day, and waits until the credit is free again.
    async fn pay(
        &self,
        id: &CustomerId,
        due: &mut VecDeque<Due<'_>>,
        today: Timestamp,
    ) -> anyhow::Result<()> {
        let mut paid = 0;
        while let Some(next) = due.pop_front_if(|next| next.day <= today) {
            // What a row shows as paid was released before this run began.
            if next.line.is_some_and(|line| line.paid.is_some()) {
                continue;
            }
            let order = self.node.entity::<Order>(next.order.clone());
            let pay = Pay {
                method: PaymentMethod::Card,
            };
            match self.send(&order, pay, next.day).await {
                Ok(_) | Err(SendError::Rejected(OrderRejection::AlreadyPaid)) => {}
                Err(error) => return Err(anyhow!("{} is not paid: {error}", next.order)),
            }
            paid += 1;
        }
        if paid == 0 {
            return Ok(());
        }
        let reserved = Money::sum(due.iter().map(|due| due.total));
        let available = reserved.and_then(|sum| self.rules.credit_limit.checked_sub(sum));
        let available = available.context("what is reserved is no amount")?;
        let customer = self.node.entity::<Customer>(id.clone());
        let free = move |customer: &Customer| (customer.available() >= available).then_some(());
        let released = answered(|| customer.until(PATIENCE, free)).await;
        released.context("the credit of a paid order is not released")
    }

    /// Brings an order to where nothing is left to do but to pay it.
    async fn order(
        &self,
        id: &CustomerId,
        purchase: &Purchase,
        name: &OrderId,
        line: Option<&OrderLine>,
    ) -> anyhow::Result<OrderState> {
        let mut state = line.map(|line| line.state);
        let order = self.node.entity::<Order>(name.clone());
        if state.is_none() {
            let place = Place {
                customer: id.clone(),
                items: vec![Item {
                    name: "CD".into(),
                    quantity: purchase.quantity,
                    amount: purchase.total,
                }],
                total: purchase.total,
                delivery: format!("Customer {id}"),
            };
            state = Some(accepted(self.send(&order, place, purchase.date).await)?);
        }
        if state == Some(OrderState::Pending) {
            let decision =
                |order: &Order| Some(order.state()).filter(|state| *state != OrderState::Pending);
            let decided = answered(|| order.until(PATIENCE, decision)).await;
            state = Some(decided.with_context(|| format!("{name} is not decided"))?);
        }
        match state {
            Some(OrderState::Approved) => accepted(self.send(&order, Ship, purchase.date).await),
            Some(state) => Ok(state),
            None => Err(anyhow!("{name} was not placed")),
        }
    }

    /// Sends a command until it is answered.
    async fn send<E, C>(
        &self,
        entity: &EntityRef<'_, E>,
        command: C,
        at: Timestamp,
    ) -> Result<E::Reply, SendError<E::Rejection>>
    where
        E: Decide<C>,
        C: Command + Clone,
    {
        let id = new_id(self.node.world().as_ref());
        let answer = answered(|| entity.send(command.clone()).at(at).by("demo").id(id)).await;
        self.tally.commands.fetch_add(1, Ordering::Relaxed);
        answer.map(|sent| sent.reply)
    }
}

/// The reply to a command that the rules of the demonstration give no reason to refuse.
fn accepted<T, R: std::fmt::Debug>(answer: Result<T, SendError<R>>) -> anyhow::Result<T> {
    answer.map_err(|error| anyhow!("{error}"))
}
