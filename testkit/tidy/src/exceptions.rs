//! Where a rule does not hold, and why.

/// A file, or a folder that ends with `/`, in which a rule is not applied.
pub struct Exception {
    /// The rule's name.
    pub rule: &'static str,
    /// From the root of the repository.
    pub path: &'static str,
    /// Why it is right there.
    pub reason: &'static str,
}

const fn except(rule: &'static str, path: &'static str, reason: &'static str) -> Exception {
    Exception { rule, path, reason }
}

/// All of them.
pub const EXCEPTIONS: &[Exception] = &[
    except(
        "task",
        "crates/everfold/tests/moves_on_postgres.rs",
        "two applications on a real database",
    ),
    except(
        "task",
        "crates/engine/src/world/system.rs",
        "the real world's tasks",
    ),
    except(
        "clock",
        "crates/engine/src/world/system.rs",
        "the real world's clock",
    ),
    except(
        "thread",
        "crates/engine/src/world/system.rs",
        "the real world's drivers",
    ),
    except(
        "timer",
        "crates/engine/src/world/system.rs",
        "the real world's timers",
    ),
    except(
        "randomness",
        "crates/engine/src/world/system.rs",
        "the real world's randomness",
    ),
    except(
        "map",
        "crates/engine/src/map.rs",
        "gives the standard maps a stated seed",
    ),
    except(
        "thread",
        "testkit/sim/src/simulation.rs",
        "asks whether it panics, starts nothing",
    ),
    except(
        "thread",
        "testkit/world/src/many.rs",
        "simulations beside each other, each on one thread",
    ),
    except(
        "task",
        "crates/log/tests/real/",
        "real processes over real files",
    ),
    except(
        "clock",
        "crates/log/tests/faults/seeded.rs",
        "runs as many seeds as a time allows",
    ),
    except(
        "clock",
        "crates/postgres/src/server/",
        "waits for real processes with a limit",
    ),
    except(
        "thread",
        "crates/postgres/src/server/",
        "waits for real processes",
    ),
    except(
        "task",
        "crates/postgres/src/connect.rs",
        "drives a connection of the pool, which ends it",
    ),
    except(
        "task",
        "crates/postgres/tests/attacks/",
        "real processes, connections and servers",
    ),
    except(
        "clock",
        "crates/postgres/tests/attacks/",
        "a successor is not held up for long",
    ),
    except(
        "timer",
        "crates/postgres/tests/attacks/",
        "waits for a real replica with a limit",
    ),
    except(
        "clock",
        "crates/postgres/tests/server.rs",
        "waits for real processes with a limit",
    ),
    except(
        "thread",
        "crates/postgres/tests/server.rs",
        "waits for real processes",
    ),
    except(
        "task",
        "crates/postgres/tests/server.rs",
        "connections to a real server",
    ),
    except(
        "task",
        "crates/cluster/src/transport/",
        "drives real connections, which end it",
    ),
    except(
        "timer",
        "crates/cluster/src/transport/",
        "deadlines of calls and signs of life over real connections",
    ),
    except(
        "clock",
        "crates/cluster/src/transport/",
        "pauses between attempts to connect",
    ),
    except(
        "clock",
        "crates/cluster/examples/",
        "measures real connections",
    ),
    except("task", "crates/cluster/examples/", "loads real connections"),
    except(
        "task",
        "crates/cluster/tests/",
        "real connections, on runtimes that are ended",
    ),
    except(
        "timer",
        "crates/cluster/tests/",
        "limits that only a test that fails reaches",
    ),
    except(
        "clock",
        "testkit/fuzz/src/main.rs",
        "fuzzes as long as a time allows",
    ),
    except(
        "task",
        "crates/node/",
        "the outer world: serves a network on the real runtime",
    ),
    except(
        "timer",
        "crates/node/",
        "the outer world: time limits of connections",
    ),
    except(
        "thread",
        "crates/node/",
        "the outer world: starts the real runtime",
    ),
    except(
        "clock",
        "crates/node/",
        "the outer world: shows people the time",
    ),
    except(
        "clock",
        "bench/",
        "measures real time; nothing of it is simulated",
    ),
    except(
        "thread",
        "bench/",
        "loads real cores; nothing of it is simulated",
    ),
    except(
        "task",
        "bench/",
        "loads the real runtime; nothing of it is simulated",
    ),
    except(
        "timer",
        "bench/",
        "measures for a real duration; nothing of it is simulated",
    ),
];

/// Whether an exception covers this file.
pub fn excepted(rule: &str, path: &str) -> bool {
    EXCEPTIONS.iter().any(|exception| {
        exception.rule == rule
            && (exception.path == path
                || (exception.path.ends_with('/') && path.starts_with(exception.path)))
    })
}
