//! Sources that fail, stall, change or lie.

use std::thread;
use std::time::Duration;

use super::{Fault, ONE_COPY, UNDER_WAY};

/// The documented exit codes.
const REFUSED: i32 = 3;
const NOT_FOUND: i32 = 4;
const FAILED: i32 = 8;

pub(super) fn faults() -> Vec<Fault> {
    vec![
        Fault::new(
            "source-off",
            "the source is switched off for a second and a half",
        )
        .strikes(|scene| {
            scene.origin().stop();
            thread::sleep(Duration::from_millis(1500));
            let source = scene.lab.source();
            scene.origin().resume(source);
        })
        .copies(ONE_COPY + UNDER_WAY)
        .late(8),
        Fault::new(
            "source-gone",
            "the source is switched off for good once two hosts have the file; one asks anew",
        )
        .strikes(|scene| {
            scene.kill_host(5);
            scene.wait_until("the file on two hosts", |scene| scene.complete() >= 2);
            scene.origin().stop();
            scene.cluster.node_mut(5).start_and_wait();
            scene.start_get(5);
        })
        .copies(ONE_COPY + UNDER_WAY)
        .late(10),
        Fault::at_source(
            "reset",
            "the source resets two answers in their middle",
            "reset?times=2",
        )
        .copies(ONE_COPY + UNDER_WAY)
        .late(6),
        Fault::at_source(
            "stall",
            "the source stops two answers in their middle",
            "stall?times=2",
        )
        .copies(ONE_COPY + UNDER_WAY)
        .late(25),
        Fault::at_source(
            "503",
            "the source is busy for its first two requests and says so",
            "503?times=2",
        )
        .late(8),
        Fault::at_source(
            "first-byte",
            "the source's first byte takes three seconds",
            "ttfb",
        )
        .late(15),
        Fault::at_source("no-range", "the source knows no ranges", "no-range").late(6),
        Fault::at_source(
            "no-length",
            "the source tells no length before the end",
            "chunked",
        )
        .late(6),
        Fault::at_source("weak", "the source's validator is weak", "weak").late(6),
        Fault::at_source(
            "no-validator",
            "the source has no validator",
            "no-validator",
        )
        .late(6),
        Fault::at_source(
            "changes",
            "the file changes in the middle and says so",
            "change-etag?after=6000000",
        )
        .changes()
        .copies(2.6)
        .late(15),
        Fault::at_source("redirect", "the source leads elsewhere", "redirect").late(6),
        Fault::at_source("403", "the source refuses", "403")
            .ends_with(REFUSED)
            .late(6),
        Fault::at_source("404", "the source has no such file", "404")
            .ends_with(NOT_FOUND)
            .late(6),
        Fault::at_source("500", "the source fails for good", "500")
            .ends_with(FAILED)
            .late(15),
        Fault::at_source(
            "wrong-length",
            "the source promises more than it gives",
            "wrong-length",
        )
        .ends_with(FAILED)
        .copies(8.0)
        .late(30),
        Fault::at_source("loop", "the source leads to itself", "loop")
            .ends_with(FAILED)
            .late(10),
    ]
}
