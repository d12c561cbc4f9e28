use std::sync::Arc;

use everfold::NodeOptions;
use everfold::engine::memory::Memory;
use everfold::testing::spec;
use everfold_sim::Simulation;

use super::*;

fn written(value: i64) -> RegisterEvent {
    RegisterEvent::Written { value }
}

fn set(from: i64, to: i64) -> CompareAndSet {
    CompareAndSet { from, to }
}

#[test]
fn a_write_takes_effect_also_where_it_changes_nothing() {
    let register = spec::<Register>();
    assert_eq!(register.state().value(), None);
    let register = register.when(Write { value: 3 }).then([written(3)]);
    let again = register.when(Write { value: 3 }).then([written(3)]);
    assert_eq!(again.state().value(), Some(3));
}

#[test]
fn a_number_is_set_only_where_the_expected_one_is() {
    let swapped = RegisterEvent::Swapped { from: 3, to: 4 };
    let register = spec::<Register>().given([written(3)]);
    let register = register.when(set(3, 4)).then([swapped]);
    let found = Some(4);
    register
        .when(set(3, 5))
        .rejected(CompareRejection::Differs { found });
    spec::<Register>()
        .when(set(0, 1))
        .rejected(CompareRejection::Differs { found: None });
}

/// Attacks: two who set on the same condition both succeed.
#[test]
fn of_two_who_expect_the_same_number_one_succeeds() {
    let simulation = Simulation::new(5);
    let world = simulation.world();
    simulation.run(async move {
        let engine = Arc::new(Memory::new(world.clone(), 2).unwrap());
        let opened = application().open_on(engine, world, NodeOptions::default());
        let node = opened.await.unwrap();
        let register = node.entity::<Register>("r");
        register.send(Write { value: 1 }).await.unwrap();
        let (one, other) = tokio::join!(
            register.send(set(1, 2)).into_future(),
            register.send(set(1, 3)).into_future(),
        );
        let one = one.is_ok();
        assert!(one != other.is_ok());
        let seen = register.read(|register, _| register.value()).await.unwrap();
        assert_eq!(seen, Some(if one { 2 } else { 3 }));
        node.close().await;
    });
}
