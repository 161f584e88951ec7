//! The lab keeps its promises: rates, names, counters, and a source whose copies are counted.

use std::time::Duration;

use crate::fault_source::{FaultSource, content};
use crate::files::{noise, sha256, sha256_of};
use crate::lab::{Host, Job, Lab, Layout, Shape, run_all, take_turn};
use crate::origin::{Copies, Origin};

/// Downloads `url` with curl to a file of the host's own.
fn curl(host: &Host, url: &str) -> Job {
    let mut command = host.command("curl");
    command.args(["-sS", "--fail", "-w", "%{speed_download}", "-o"]);
    command.arg(host.dir().join("curled")).arg(url);
    Job::new(command)
}

#[test]
fn one_curl_reaches_nearly_the_rate_of_a_shaped_link() {
    let Some(_turn) = take_turn(&["nginx", "curl"]) else {
        return;
    };
    let lab = Lab::new(1, Shape::Mbit(100), Shape::Mbit(1000));
    let origin = Origin::start(lab.source());
    origin.publish("file", &noise(1, 12_000_000));
    let done = curl(&lab.hosts()[0], &origin.url("file")).run();
    let bytes_per_sec: f64 = done.expect_success("curl").stdout.parse().unwrap();
    let share = bytes_per_sec * 8.0 / 100e6;
    // The upper end proves that the link is shaped at all; the lower one leaves room for a busy machine.
    assert!(
        (0.7..1.0).contains(&share),
        "one curl reached {share:.3} of the link's rate"
    );
}

#[test]
fn eight_curls_copy_the_file_eight_times_and_both_counters_say_so() {
    let Some(_turn) = take_turn(&["nginx", "curl"]) else {
        return;
    };
    let lab = Lab::new(8, Shape::Mbit(400), Shape::Mbit(400));
    let origin = Origin::start(lab.source());
    let content = noise(2, 1_000_000);
    origin.publish("file", &content);
    let before = lab.source().counters();
    let all = run_all(
        lab.hosts()
            .iter()
            .map(|host| curl(host, &origin.url("file")))
            .collect(),
    );
    for (host, done) in lab.hosts().iter().zip(all) {
        done.expect_success(host.name());
        assert_eq!(
            sha256_of(&host.dir().join("curled")),
            Some(sha256(&content))
        );
    }
    assert_eq!(
        origin.copies("file"),
        Copies {
            gets: 8,
            body_bytes: 8_000_000
        }
    );
    let sent = lab.source().counters().since(before).sent_bytes;
    assert!(
        (8_000_000..9_000_000).contains(&sent),
        "the link carried {sent} bytes"
    );
}

#[test]
fn what_the_second_zone_gets_crosses_the_trunk_at_its_rate() {
    let Some(_turn) = take_turn(&["nginx", "curl"]) else {
        return;
    };
    let (fast, trunk) = (Shape::Mbit(100), Shape::Mbit(20));
    let lab = Layout::new(2, fast, fast)
        .last(1, Shape::Mbit(50))
        .in_two_zones(trunk)
        .build();
    let origin = Origin::start(lab.source());
    origin.publish("file", &noise(3, 4_000_000));
    let rate = |host: &Host| {
        let before = lab.trunk().unwrap();
        let done = curl(host, &origin.url("file")).run();
        let bytes_per_sec: f64 = done.expect_success("curl").stdout.parse().unwrap();
        let crossed = lab.trunk().unwrap().since(before).received_bytes;
        (bytes_per_sec * 8e-6, crossed)
    };
    let [near, far] = lab.hosts() else {
        unreachable!("two hosts")
    };
    assert_eq!((near.zone(), far.zone(), lab.zones()), (0, 1, 2));
    let (near_mbit, near_crossed) = rate(near);
    let (far_mbit, far_crossed) = rate(far);
    assert!(near_crossed < 100_000, "{near_crossed} bytes");
    assert!(
        (4_000_000..4_500_000).contains(&far_crossed),
        "{far_crossed} bytes"
    );
    assert!(
        (10.0..20.0).contains(&far_mbit),
        "{far_mbit:.1} Mbit, and {near_mbit:.1} in the first zone"
    );
}

#[test]
fn the_source_serves_tls_by_name_and_one_certificate_is_not_trusted() {
    let Some(_turn) = take_turn(&["nginx", "curl"]) else {
        return;
    };
    let lab = Lab::new(1, Shape::Unshaped, Shape::Unshaped);
    let origin = Origin::start(lab.source());
    origin.publish("file", b"x");
    let fetch = |url: String, family: &str| {
        let mut command = lab.hosts()[0].command("curl");
        command
            .args(["-sS", "--fail", family, "--cacert"])
            .arg(origin.ca())
            .arg(url);
        Job::new(command).within(Duration::from_secs(10)).run().code
    };
    assert_eq!(fetch(origin.https_url("file"), "-4"), Some(0));
    assert_eq!(fetch(origin.https_url("file"), "-6"), Some(0));
    assert_eq!(fetch(origin.untrusted_url("file"), "-4"), Some(60));
}

#[test]
fn a_source_that_was_switched_off_can_be_switched_on_again() {
    let Some(_turn) = take_turn(&["nginx", "curl"]) else {
        return;
    };
    let lab = Lab::new(1, Shape::Unshaped, Shape::Unshaped);
    let mut origin = Origin::start(lab.source());
    origin.publish("file", b"x");
    let code = |origin: &Origin| curl(&lab.hosts()[0], &origin.url("file")).run().code;
    origin.stop();
    assert_eq!(code(&origin), Some(7));
    origin.resume(lab.source());
    assert_eq!(code(&origin), Some(0));
}

#[test]
fn the_faults_are_what_their_paths_say() {
    let Some(_turn) = take_turn(&["curl"]) else {
        return;
    };
    let lab = Lab::new(1, Shape::Unshaped, Shape::Unshaped);
    let source = FaultSource::start(lab.source());
    let ask = |path: &str, arguments: &[&str]| {
        let mut command = lab.hosts()[0].command("curl");
        command
            .args(["-s", "-o"])
            .arg(lab.hosts()[0].dir().join("body"));
        command
            .args(["-w", "%{http_code}"])
            .args(arguments)
            .arg(source.url(path));
        let done = Job::new(command).within(Duration::from_secs(20)).run();
        (
            done.code,
            done.stdout,
            sha256_of(&lab.hosts()[0].dir().join("body")),
        )
    };
    let right = Some(sha256(&content(0, 100_000)));
    let fine = (Some(0), "200".to_owned(), right);
    assert_eq!(ask("plain?size=100000", &[]), fine);
    assert_eq!(ask("chunked?size=100000", &[]), fine);
    assert_eq!(ask("redirect?size=100000", &["-L"]), fine);
    assert_eq!(ask("plain?size=100000", &["-r", "10-19"]).1, "206");
    assert_eq!(
        ask("plain?size=100000", &["-H", "If-Match: \"old\""]).1,
        "412"
    );
    assert_eq!(ask("no-range?size=100000", &["-r", "10-19"]), fine);
    assert_eq!(ask("503?size=100000", &[]).1, "503");
    assert_eq!(ask("503?size=100000", &[]), fine);
    assert_eq!(ask("404", &[]).1, "404");
    assert_eq!(ask("members?size=100000", &[]).1, "401");
    assert_eq!(
        ask(
            "members?size=100000",
            &["-H", "Authorization: Bearer secret"]
        ),
        fine
    );
    let (receive_failed, too_short, too_many_redirects) = (Some(56), Some(18), Some(47));
    assert_eq!(ask("reset?size=100000", &[]).0, receive_failed);
    assert_eq!(ask("reset?size=100000", &[]), fine);
    assert_eq!(ask("wrong-length?size=100000", &[]).0, too_short);
    assert_eq!(ask("loop", &["-L"]).0, too_many_redirects);
    assert_eq!(ask("change-etag?size=100000", &[]).0, receive_failed);
    assert_eq!(
        ask("change-etag?size=100000", &[]).2,
        Some(sha256(&content(1, 100_000)))
    );
    let resets = source.asked_for("reset?size=100000");
    assert_eq!(
        resets
            .iter()
            .map(|asked| asked.body_bytes)
            .collect::<Vec<_>>(),
        [50_000, 100_000]
    );
}
