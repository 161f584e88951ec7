//! A day in small: tasks, joins, deaths and caches that forget, and then everything is as it was.
//!
//! A test binary of its own with one test, because it counts the heap of the whole process.

use std::alloc::System;
use std::time::Duration;

use cap::Cap;
use dfnode_simulations::{Day, DayReport, live};

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

fn lives(day: &Day) -> DayReport {
    live(day, || HEAP.allocated(), &mut |_| {})
}

#[test]
fn after_an_hour_of_joins_deaths_and_tasks_everything_returns_to_its_start() {
    let seed = std::env::var("DFNODE_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(1);
    let day = Day {
        nodes: 24,
        length: Duration::from_hours(1),
        tasks: 60,
        seed,
        stay: Duration::from_hours(1),
        cache_ttl: Duration::from_mins(10),
        remember: Duration::from_mins(20),
        ..Day::default()
    };
    let report = lives(&day);
    assert!(
        report.violations.is_empty(),
        "{report:#?}\nreplay: DFNODE_SEED={seed} cargo test -p dfnode-simulations --test day"
    );
    let enough = report.got > 200 && report.crashes > 5 && report.evictions > 100;
    assert!(enough, "too little happened: {report:#?}");
    let small = Day {
        nodes: 6,
        length: Duration::from_mins(10),
        tasks: 5,
        ..day
    };
    let (once, again) = (lives(&small), lives(&small));
    assert_eq!(
        once.trace_hash, again.trace_hash,
        "seed {seed}: the same day twice"
    );
}
