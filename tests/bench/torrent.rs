//! The same crowd with libtorrent: the source seeds, all hosts leech and upload.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::flash_crowd::{Crowd, Figures};
use crate::lab::{Host, Process};

/// The peer, written in the language that libtorrent's bindings speak.
const PEER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/bench/torrent.py");
/// How long the peers may take to load before they begin together.
const LEAD: Duration = Duration::from_secs(3);
pub(crate) const TIMEOUT: Duration = Duration::from_mins(10);

/// A Python that has libtorrent: the system's, or the first on PATH.
pub(crate) fn python() -> Option<&'static str> {
    ["/usr/bin/python3", "python3"].into_iter().find(|python| {
        let tried = Command::new(python)
            .args(["-c", "import libtorrent"])
            .output();
        tried.is_ok_and(|tried| tried.status.success())
    })
}

/// Downloads the crowd's file on every host.
pub(crate) fn measure(crowd: &Crowd<'_>, python: &str) -> Figures {
    let lab = crowd.lab();
    let torrent = lab.dir().join("file.torrent");
    let peer = |role: &str, host: &Host, begin: f64, others: &[String]| {
        let folder = host.dir().join("torrent");
        std::fs::create_dir_all(&folder).unwrap();
        if role == "seed" {
            std::fs::copy(crowd.origin().file("file"), folder.join("file")).unwrap();
        }
        let mut command = host.command(python);
        command.args([PEER, role]).arg(&torrent).arg(&folder);
        command
            .args([host.v4().to_string(), begin.to_string()])
            .args(others);
        Process::start(&mut command, &host.dir().join("torrent.log"))
    };
    let seed = peer("seed", lab.source(), 0.0, &[]);
    wait_for_line(&seed);

    let before = crowd.begin();
    let begin = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + LEAD;
    let everybody: Vec<_> = lab
        .hosts()
        .iter()
        .chain([lab.source()])
        .map(|host| host.v4().to_string())
        .collect();
    let leeches: Vec<_> = lab
        .hosts()
        .iter()
        .zip(crowd.starts())
        .map(|(host, start)| {
            let others: Vec<_> = everybody
                .iter()
                .filter(|other| **other != host.v4().to_string())
                .cloned()
                .collect();
            peer("leech", host, (begin + *start).as_secs_f64(), &others)
        })
        .collect();
    let times: Vec<f64> = leeches
        .iter()
        .map(|leech| wait_for_line(leech).parse().unwrap())
        .collect();
    let usages: Vec<_> = leeches.iter().map(Process::usage).collect();
    let outputs: Vec<_> = lab
        .hosts()
        .iter()
        .map(|host| host.dir().join("torrent/file"))
        .collect();
    crowd.figures(&times, &usages, &outputs, &before, false)
}

/// The first line that `process` prints.
fn wait_for_line(process: &Process) -> String {
    let give_up = Instant::now() + TIMEOUT;
    loop {
        let log = process.log();
        if let Some((line, _)) = log.split_once('\n') {
            return line.to_owned();
        }
        assert!(Instant::now() < give_up, "libtorrent: {log}");
        thread::sleep(Duration::from_millis(20));
    }
}
