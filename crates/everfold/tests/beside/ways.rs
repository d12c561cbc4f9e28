//! Every way by which a command comes to the owner may carry statements.

use super::*;

/// Attacks: statements without events and without an id have no record that they could go with.
#[test]
fn statements_alone_leave_an_outcome_in_the_log() {
    with_tables(1, 6, async |tables, world| {
        let node = open(application(), tables.clone(), &world).await;
        let customer = node.entity::<Customer>("c");
        let page = || Visit { page: "a".into() };
        assert_eq!(customer.send(page()).by("ann").await.unwrap().reply, 0);
        let id = new_id(world.as_ref());
        assert_eq!(customer.send(page()).id(id).await.unwrap().reply, 0);
        assert_eq!(tables.contents().await.visits, [("a".into(), 2)].into());
        let records = log(tables.as_ref()).await;
        let outcomes = records.iter().filter(|it| it.kind == Kind::Outcome);
        let told: Vec<_> = outcomes
            .map(|it| {
                let principal = it.portable.principal.to_string();
                (principal, it.portable.command, it.local.reply.is_some())
            })
            .collect();
        let expected = [("ann".into(), None, false), (String::new(), Some(id), true)];
        assert_eq!(told, expected);
        let node = open(application(), tables.clone(), &world).await;
        let customer = node.entity::<Customer>("c");
        assert_eq!(customer.send(Pay { amount: 1 }).await.unwrap().reply, 1);
        assert_eq!(customer.read(|_, version| version).await, Ok(1));
    });
}

/// Attacks: statements that nobody runs are lost without a word.
#[test]
fn an_engine_without_tables_says_so_before_anything_happens() {
    let simulation = Simulation::new(7);
    let world = simulation.world();
    let memory = Arc::new(Memory::new(world.clone(), 1).unwrap());
    simulation.run(async {
        let node = open(application(), memory, &world).await;
        let customer = node.entity::<Customer>("c");
        let error = customer.send(bill("i-1", 1)).await.unwrap_err();
        assert_eq!(error, SendError::Failed(CommandError::NoTables));
        assert!(error.to_string().contains("PostgreSQL"), "{error}");
        let seen = customer.read(|customer, version| (customer.balance, version));
        assert_eq!(seen.await, Ok((0, 0)));
        assert_eq!(node.owners().await.unwrap()[0].batches, 0);
        assert_eq!(customer.send(Pay { amount: 1 }).await.unwrap().reply, 1);
    });
}

/// Attacks: what statements hold is not counted.
#[test]
fn statements_count_against_the_limits() {
    with_tables(1, 8, async |tables, world| {
        let node = open(application(), tables.clone(), &world).await;
        let customer = node.entity::<Customer>("c");
        let page = "x".repeat(5 << 20);
        let refused = customer.send(Visit { page }).await;
        let too_large = |error| matches!(error, SendError::Failed(CommandError::TooLarge(_)));
        assert!(refused.is_err_and(too_large));
        assert_eq!(tables.contents().await, Contents::default());
        assert_eq!(tables.seen.lock().unwrap().len(), 0);
    });
}

/// Attacks: several entities and a table change as one, or none of them.
#[test]
fn commands_over_several_entities_carry_statements_too() {
    with_tables(3, 9, async |tables, world| {
        let node = open(application(), tables.clone(), &world).await;
        let id = |name: &str| CustomerId::from(format!("{name}{{t}}"));
        let charge = || Charge {
            from: id("a"),
            to: id("b"),
            invoice: "i-1".into(),
        };
        node.together().send(charge()).await.unwrap();
        let refused = node.together().send(charge()).await.unwrap_err();
        assert_eq!(refused, failed("duplicate key i-1"));
        for (name, balance) in [("a", -5), ("b", 5)] {
            let read = node.entity::<Customer>(id(name));
            let read = read.read(|customer, version| (customer.balance, version));
            assert_eq!(read.await, Ok((balance, 1)));
        }
        assert_eq!(tables.contents().await.invoices, [("i-1".into(), 5)].into());
    });
}

/// Attacks: a handler's command runs its statements again after a restart, or a failing one stops
/// everybody.
#[test]
fn commands_of_reactors_carry_statements_too() {
    with_tables(2, 10, async |tables, world| {
        let billing = || {
            let reactor = Reactor::named("bill").on(|event: &CustomerEvent, at| match event {
                CustomerEvent::Paid { amount } => {
                    let id = format!("bill of {}", at.entity_id::<String>());
                    command::<Customer, _>(CustomerId::from(id), bill(format!("i-{amount}"), 1))
                        .into()
                }
                CustomerEvent::Billed { .. } => nothing(),
            });
            application().reactor(reactor)
        };
        let node = open(billing(), tables.clone(), &world).await;
        for (name, amount) in [("a", 1), ("b", 1), ("c", 2)] {
            let customer = node.entity::<Customer>(name);
            customer.send(Pay { amount }).await.unwrap();
            node.caught_up().await.unwrap();
        }
        let parked = node.parked();
        assert_eq!(parked.len(), 1, "{parked:?}");
        assert!(parked[0].reason.contains("duplicate key i-1"), "{parked:?}");
        // Taken over before its checkpoints are stored: it sends all of it again.
        let node = open(billing(), tables.clone(), &world).await;
        node.caught_up().await.unwrap();
        let rows = tables.contents().await.invoices;
        assert_eq!(rows, [("i-1".into(), 1), ("i-2".into(), 1)].into());
        assert_eq!(rows, invoices(tables.as_ref()).await);
    });
}

/// Attacks: raw appends forget their statements, or take a command for another one's repeat that
/// differs in nothing else.
#[test]
fn raw_appends_carry_statements_too() {
    with_tables(1, 11, async |tables, world| {
        let application = application().boundary("shop");
        let node = open(application, tables.clone(), &world).await;
        let stream = node.stream("note-1");
        let event = || vec![NewEvent::json("Noted", "{}")];
        let row = |invoice: &str| row(&bill(invoice, 1));
        let id = new_id(world.as_ref());
        for _ in 0..2 {
            let sent = stream.append(event(), Expected::Any).beside(row("i-1"));
            assert_eq!(sent.id(id).await.unwrap().reply, 1);
        }
        let other = stream.append(event(), Expected::Any).beside(row("i-2"));
        let reused = Err(CommandError::IdReused(id));
        assert_eq!(other.id(id).await.map(|sent| sent.reply), reused);
        let boundary = node.boundary("shop", "all");
        for _ in 0..2 {
            let none = Condition::none_ever(Query::everything());
            let sent = boundary.append(event(), Some(none)).beside(row("i-3"));
            let sent = sent.await.map(|sent| sent.reply);
            assert!(matches!(sent, Ok(1) | Err(CommandError::Conflict(_))));
        }
        let doubled = boundary.append(event(), None).beside(row("i-3")).await;
        let failed = Err(CommandError::Statement("duplicate key i-3".into()));
        assert_eq!(doubled.map(|sent| sent.reply), failed);
        let rows = tables.contents().await.invoices;
        assert_eq!(rows, [("i-1".into(), 1), ("i-3".into(), 1)].into());
    });
}

/// Two bills, both or none.
fn billing_twice() -> Saga<(String, String)> {
    let ask_bill = |customer: &'static str, pick: fn(&(String, String)) -> String| {
        ask(move |plan: &(String, String)| {
            let customer = CustomerId::from(customer.to_owned());
            command::<Customer, _>(customer, bill(pick(plan), 1))
        })
    };
    let back = ask(|_: &(String, String)| {
        let customer = CustomerId::from("a".to_owned());
        command::<Customer, _>(customer, Pay { amount: 1 })
    });
    Saga::named("twice")
        .step(Step::named("one", ask_bill("a", |plan| plan.0.clone())).undo(back))
        .step(Step::named("two", ask_bill("b", |plan| plan.1.clone())))
}

/// Attacks: a statement that fails a step is taken for done, or for a store that will come back.
#[test]
fn steps_of_sagas_carry_statements_too() {
    with_tables(2, 12, async |tables, world| {
        let application = application().saga(billing_twice());
        let node = open(application, tables.clone(), &world).await;
        let saga = node.saga(&billing_twice());
        let start = async |id: &str, one: &str, two: &str| {
            saga.start(id, (one.into(), two.into())).await.unwrap();
        };
        start("good", "i-1", "i-2").await;
        let outcome = saga.outcome("good", Duration::from_secs(60)).await;
        assert_eq!(outcome.unwrap().end, SagaEnd::Completed);
        start("bad", "i-3", "i-2").await;
        let state = async || saga.status("bad").await.unwrap().unwrap();
        while state().await.state == "running" {
            world.sleep(Duration::from_secs(1)).await;
        }
        let status = state().await;
        let told = format!("{:?} {:?}", status.reason, status.steps);
        assert!(told.contains("duplicate key i-2"), "{told}");
        let rows = tables.contents().await.invoices;
        let expected = ["i-1", "i-2", "i-3"].map(|invoice| (invoice.to_owned(), 1));
        assert_eq!(rows, expected.into());
    });
}

#[test]
fn specifications_name_statements() {
    let bill = bill("i-1", 5);
    let decided = spec::<Customer>()
        .given([CustomerEvent::Paid { amount: 7 }])
        .when(bill.clone())
        .then_beside([billed(&bill)], [row(&bill)])
        .replies(2);
    assert_eq!(decided.statements(), [row(&bill)]);
    decided
        .when(Pay { amount: 1 })
        .then([CustomerEvent::Paid { amount: 1 }]);
}

#[test]
#[should_panic(expected = "name them with `.then_beside(...)`")]
fn a_specification_that_does_not_name_the_statements_does_not_hold() {
    let bill = bill("i-1", 5);
    spec::<Customer>().when(bill.clone()).then([billed(&bill)]);
}

#[test]
#[should_panic(expected = "name them with `.then_beside(...)`")]
fn a_specification_without_events_does_not_overlook_statements() {
    let page = "a".into();
    spec::<Customer>().when(Visit { page }).then_nothing();
}
