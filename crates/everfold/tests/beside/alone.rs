//! A unit with statements is alone: in its batch, and when it fails.

use std::future::IntoFuture;

use super::*;

/// Attacks: with a unit that is refused nothing else may be, and whatever was decided on top of it
/// is decided again on what is true.
#[test]
fn a_failing_statement_fails_its_command_alone() {
    let simulation = with_tables(1, 1, async |tables, world| {
        let node = open(application(), tables.clone(), &world).await;
        let customer = node.entity::<Customer>("c");
        assert_eq!(customer.send(bill("i-1", 1)).await.unwrap().reply, -1);
        *tables.delay.lock().unwrap() = Duration::from_millis(10);
        tables.seen.lock().unwrap().clear();
        let slow = customer.send(Pay { amount: 1 }).into_future();
        world.sleep(Duration::from_millis(1)).await;
        let before = customer.send(Pay { amount: 2 }).into_future();
        let other = node.entity::<Customer>("d").send(Pay { amount: 7 });
        let other = other.into_future();
        let doubled = customer.send(bill("i-1", 100)).into_future();
        let after = customer.send(Pay { amount: 4 }).into_future();
        let read = customer.read(|customer, _| customer.balance);
        let good = customer.send(bill("i-2", 10)).into_future();
        let last = customer.send(Pay { amount: 8 }).into_future();
        assert_eq!(slow.await.unwrap().reply, 0);
        assert_eq!(before.await.unwrap().reply, 2);
        assert_eq!(other.await.unwrap().reply, 7);
        assert_eq!(doubled.await.unwrap_err(), failed("duplicate key i-1"));
        assert_eq!(after.await.unwrap().reply, 6);
        assert_eq!(read.await, Ok(6));
        assert_eq!(good.await.unwrap().reply, -4);
        assert_eq!(last.await.unwrap().reply, 4);
        let seen = |units, statements| Seen { units, statements };
        let expected = [(1, 0), (2, 0), (1, 1), (1, 0), (1, 1), (1, 0)];
        assert_eq!(
            *tables.seen.lock().unwrap(),
            expected.map(|(units, statements)| seen(units, statements))
        );
        let rows = tables.contents().await.invoices;
        assert_eq!(rows, [("i-1".into(), 1), ("i-2".into(), 10)].into());
        assert_eq!(rows, invoices(tables.as_ref()).await);
    });
    assert!(
        simulation
            .reached()
            .contains_key("owner: statements wait for their turn")
    );
}

/// Attacks: who waits for a state shares the batch of the unit that made it, and must not be shown
/// what never was.
#[test]
fn who_waits_for_a_state_is_not_shown_what_a_statement_undid() {
    with_tables(1, 2, async |tables, world| {
        let node = open(application(), tables.clone(), &world).await;
        let customer = node.entity::<Customer>("c");
        customer.send(bill("i-1", 1)).await.unwrap();
        *tables.delay.lock().unwrap() = Duration::from_millis(10);
        let look = |customer: &Customer| (customer.balance < -1).then_some(customer.balance);
        let found = customer.until(Duration::from_secs(5), look);
        world.sleep(Duration::from_millis(1)).await;
        let refused = customer.send(bill("i-1", 100)).into_future();
        let good = customer.send(bill("i-2", 2)).into_future();
        assert_eq!(refused.await.unwrap_err(), failed("duplicate key i-1"));
        assert_eq!(good.await.unwrap().reply, -3);
        assert_eq!(found.await, Ok(-3));
    });
}

/// Attacks: of two statements the first is undone with the second.
#[test]
fn the_statements_of_a_command_are_done_together_or_not_at_all() {
    with_tables(1, 3, async |tables, world| {
        let node = open(application(), tables.clone(), &world).await;
        let customer = node.entity::<Customer>("c");
        let refused = customer.send(Visit { page: "a+".into() }).await;
        assert_eq!(
            refused.unwrap_err(),
            failed("syntax error at \"select nonsense\"")
        );
        assert_eq!(tables.contents().await, Contents::default());
        assert_eq!(customer.read(|_, version| version).await, Ok(0));
    });
}

/// Attacks: a repeated command whose answer was lost runs its statements a second time.
#[test]
fn a_repeated_command_runs_its_statements_once() {
    for fault in [Fault::LostAnswer, Fault::LostAppend, Fault::Full] {
        with_tables(1, 4, async |tables, world| {
            let node = open(application(), tables.clone(), &world).await;
            let customer = node.entity::<Customer>("c");
            tables.faults.lock().unwrap().push_back(fault);
            let (one, two) = (new_id(world.as_ref()), new_id(world.as_ref()));
            let page = || Visit { page: "a".into() };
            let lost = customer.send(page()).id(one).await.unwrap_err();
            let known = matches!(lost, SendError::Failed(CommandError::Unavailable { .. }));
            let unknown = matches!(lost, SendError::Failed(CommandError::Unknown(_)));
            assert!(if fault == Fault::Full { known } else { unknown });
            for _ in 0..3 {
                let mut sent = customer.send(page()).id(one).await;
                while let Err(SendError::Failed(CommandError::Unavailable { .. })) = sent {
                    world.sleep(Duration::from_millis(100)).await;
                    sent = customer.send(page()).id(one).await;
                }
                assert_eq!(sent.unwrap().reply, 0);
            }
            assert_eq!(tables.contents().await.visits, [("a".into(), 1)].into());
            // The same at the same time, and over the end of an ownership.
            let both = [(); 2].map(|()| customer.send(bill("i-1", 1)).id(two).into_future());
            for sent in both {
                assert_eq!(sent.await.unwrap().reply, -1);
            }
            let node = open(application(), tables.clone(), &world).await;
            let again = node.entity::<Customer>("c").send(bill("i-1", 1)).id(two);
            assert_eq!(again.await.unwrap().reply, -1);
            let rows = tables.contents().await.invoices;
            assert_eq!(rows, invoices(tables.as_ref()).await);
        });
    }
}

/// Attacks: a failed statement leaves the command's id behind as if it had been decided.
#[test]
fn a_command_that_failed_by_its_statement_may_be_sent_again() {
    with_tables(1, 5, async |tables, world| {
        let node = open(application(), tables.clone(), &world).await;
        let customer = node.entity::<Customer>("c");
        customer.send(bill("i-1", 1)).await.unwrap();
        let id = new_id(world.as_ref());
        let both = [(); 2].map(|()| customer.send(bill("i-1", 2)).id(id).into_future());
        for sent in both {
            assert_eq!(sent.await.unwrap_err(), failed("duplicate key i-1"));
        }
        // Another content under the id: nothing is remembered of the first.
        let sent = customer.send(bill("i-2", 2)).id(id).await;
        assert_eq!(sent.unwrap().reply, -3);
    });
}

/// Attacks: a crowd. Every answer is right, rows and events agree, and statements go alone,
/// whatever else goes wrong.
#[test]
fn rows_and_events_agree_among_a_thousand_commands() {
    let mut refused = 0;
    for seed in 0..12 {
        with_tables(2, seed, async |tables, world| {
            let odds = if seed % 3 == 0 { 0 } else { 4 };
            *tables.odds.lock().unwrap() = odds;
            *tables.delay.lock().unwrap() = Duration::from_micros(300);
            let node = open(application(), tables.clone(), &world).await;
            let mut clients = Vec::new();
            for number in 0..1000_u64 {
                let (node, inner) = (node.clone(), world.clone());
                let (done, over) = tokio::sync::oneshot::channel();
                let task = async move {
                    let _ = done.send(client(&node, inner.as_ref(), number).await);
                };
                world.spawn("client", Box::pin(task));
                clients.push(over);
            }
            let (mut billed, mut paid) = (BTreeMap::new(), 0);
            for over in clients {
                match over.await.unwrap() {
                    Done::Paid => paid += 1,
                    Done::Billed(invoice, amount) => {
                        assert_eq!(billed.insert(invoice, amount), None, "billed twice");
                    }
                    Done::Refused => refused += 1,
                }
            }
            assert_eq!(paid, 950);
            *tables.odds.lock().unwrap() = 0;
            let rows = tables.contents().await.invoices;
            assert_eq!(rows, billed, "answers and rows differ");
            assert_eq!(rows, invoices(tables.as_ref()).await);
            let balances = (0..5).map(|number| {
                let customer = node.entity::<Customer>(format!("customer {number}"));
                customer.read(|customer, _| customer.balance)
            });
            let mut sum = 0;
            for balance in balances {
                sum += balance.await.unwrap();
            }
            assert_eq!(sum, 950 - rows.values().sum::<i64>());
            let seen = tables.seen.lock().unwrap();
            let alone = |seen: &Seen| seen.statements == 0 || seen.units == 1;
            assert!(seen.iter().all(alone), "statements went with others");
            if odds == 0 {
                let batches = seen.len();
                assert!(batches < 300, "{batches} batches: nothing is shared");
            }
        });
    }
    assert!(refused > 0, "no statement failed");
}

enum Done {
    Paid,
    Billed(String, i64),
    Refused,
}

/// Every twentieth command has a statement, and every third of these meets an invoice that may be
/// there already. Repeats what is not known to be done.
async fn client(node: &Node, world: &dyn World, number: u64) -> Done {
    let customer = node.entity::<Customer>(format!("customer {}", number % 5));
    let id = new_id(world);
    let new = if number.is_multiple_of(60) { 0 } else { number };
    let bill = bill(format!("i-{new}"), 1 + number as i64);
    loop {
        let sent = if number.is_multiple_of(20) {
            customer.send(bill.clone()).id(id).await
        } else {
            customer.send(Pay { amount: 1 }).id(id).await
        };
        match sent {
            Ok(_) if number.is_multiple_of(20) => return Done::Billed(bill.invoice, bill.amount),
            Ok(_) => return Done::Paid,
            Err(SendError::Failed(CommandError::Statement(_))) => return Done::Refused,
            Err(SendError::Failed(CommandError::Unknown(_) | CommandError::Unavailable { .. })) => {
                let pause = Duration::from_millis(world.random() % 400);
                world.sleep(pause).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}
