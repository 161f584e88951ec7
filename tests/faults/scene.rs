//! Six hosts, a source, a download by each, and what can be done to them.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::Value;

use super::Fault;
use crate::cluster::{Cluster, Node, Options};
use crate::crowd::{as_float, output};
use crate::deaths::readers;
use crate::disk::Disk;
use crate::fault_source::{self, FaultSource};
use crate::files::{noise, sha256, sha256_of};
use crate::lab::{Counters, Host, Lab, Process, Shape};
use crate::origin::Origin;

pub(super) const HOSTS: usize = 6;
/// At [`LINK`], 3.2 s at least.
pub(super) const LENGTH: usize = 20_000_000;
const LINK: Shape = Shape::Mbit(50);
/// A download that has not ended by then hangs.
const PATIENCE: Duration = Duration::from_mins(1);
/// How much earlier than the others a liar asks.
const HEAD_START: Duration = Duration::from_millis(300);
const LOOK_EVERY: Duration = Duration::from_millis(20);

enum Source {
    Nginx(Origin),
    Faulty(FaultSource),
}

/// One host's `dfnode get`.
struct Get {
    process: Process,
    log: PathBuf,
}

pub(super) struct Scene<'lab> {
    pub(super) lab: &'lab Lab,
    pub(super) cluster: Cluster<'lab>,
    source: Source,
    url: String,
    /// The digest of the content that is right.
    right: String,
    gets: Vec<Option<Get>>,
    arguments: Vec<String>,
    before: Counters,
}

/// How one host fared.
pub(super) struct Fared {
    pub(super) host: String,
    pub(super) code: Option<i32>,
    pub(super) took: Duration,
    pub(super) is_right: bool,
    pub(super) is_absent: bool,
    pub(super) said: String,
}

pub(super) struct Outcome {
    /// None for hosts of which nothing is asked.
    pub(super) fared: Vec<Option<Fared>>,
    pub(super) copies: f64,
    /// How many nodes say that the second host is isolated.
    pub(super) judges: usize,
    pub(super) panics: usize,
}

/// Lets a fault happen.
pub(super) fn play(fault: &Fault) -> Outcome {
    let lab = Lab::new(HOSTS, LINK, LINK);
    let mut scene = Scene::set(&lab, fault);
    let _disk: Option<Disk> = (fault.before)(&scene);
    scene.cluster.start_all();
    scene.arguments = (fault.arguments)(&scene);
    scene.before = lab.source().counters();
    let began = SystemTime::now();
    // A liar asks first, so that it is the one that reads the source.
    if fault.lie.is_some() {
        scene.start_get(1);
        thread::sleep(HEAD_START);
    }
    for place in (0..HOSTS).filter(|place| *place != 1 || fault.lie.is_none()) {
        scene.start_get(place);
    }
    if let Some(strike) = fault.strike {
        scene.wait_until("a quarter of the file", |scene| {
            scene.sent_bytes() * 4 >= LENGTH as u64
        });
        strike(&mut scene);
    }
    let fared = scene.wait(began, fault);
    let copies = as_float(scene.sent_bytes()) / as_float(LENGTH as u64);
    let judges = if fault.isolates { scene.judges() } else { 0 };
    (fault.after)(&mut scene);
    let nodes = scene.cluster.nodes().iter();
    Outcome {
        fared,
        copies,
        judges,
        panics: nodes.filter(|node| node.log().contains("panicked")).count(),
    }
}

impl<'lab> Scene<'lab> {
    fn set(lab: &'lab Lab, fault: &Fault) -> Self {
        let mut cluster = Cluster::prepare(lab, &Options::default());
        if let Some(lie) = fault.lie {
            cluster.node_mut(1).set_env("DFNODE_TEST_FAULT", lie);
        }
        let (source, url, right) = if fault.path.is_empty() {
            let origin = Origin::start(lab.source());
            let content = noise(7, LENGTH);
            origin.publish("file", &content);
            let url = origin.url("file");
            (Source::Nginx(origin), url, sha256(&content))
        } else {
            let source = FaultSource::start(lab.source());
            let mark = if fault.path.contains('?') { '&' } else { '?' };
            let url = source.url(&format!("{}{mark}size={LENGTH}", fault.path));
            let right = sha256(&fault_source::content(fault.version, LENGTH));
            (Source::Faulty(source), url, right)
        };
        Self {
            lab,
            cluster,
            source,
            url,
            right,
            gets: (0..HOSTS).map(|_| None).collect(),
            arguments: Vec::new(),
            before: Counters::default(),
        }
    }

    pub(super) fn host(&self, place: usize) -> &'lab Host {
        &self.lab.hosts()[place]
    }

    /// The digest that `--digest` takes.
    pub(super) fn digest(&self) -> String {
        format!("sha256:{}", self.right)
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    fn sent_bytes(&self) -> u64 {
        self.lab.source().counters().since(self.before).sent_bytes
    }

    pub(super) fn origin(&mut self) -> &mut Origin {
        match &mut self.source {
            Source::Nginx(origin) => origin,
            Source::Faulty(_) => unreachable!("only nginx is switched"),
        }
    }

    pub(super) fn wait_until(&mut self, what: &str, mut ready: impl FnMut(&mut Self) -> bool) {
        let give_up = Instant::now() + PATIENCE;
        while !ready(self) {
            assert!(Instant::now() < give_up, "{what} did not come");
            thread::sleep(LOOK_EVERY);
        }
    }

    pub(super) fn start_get(&mut self, place: usize) {
        let node = &self.cluster.nodes()[place];
        let log = node.host().dir().join("get.log");
        let mut command = node.get_command(&self.url, &output(node));
        command.args(&self.arguments);
        let process = Process::start(&mut command, &log);
        self.gets[place] = Some(Get { process, log });
    }

    /// Ends a download as Ctrl-C twice would; the node lives.
    pub(super) fn kill_get(&mut self, place: usize) {
        self.gets[place] = None;
    }

    /// The host loses power.
    pub(super) fn kill_host(&mut self, place: usize) {
        self.kill_get(place);
        self.cluster.node_mut(place).kill();
    }

    pub(super) fn signal(&mut self, place: usize, signal: Signal) {
        self.cluster.node_mut(place).process().signal(signal);
    }

    /// Hosts that read from the source right now.
    pub(super) fn readers(&self) -> Vec<usize> {
        let names = readers(self.lab);
        let hosts = self.lab.hosts().iter().enumerate();
        hosts
            .filter(|(_, host)| names.contains(host.name()))
            .map(|(place, _)| place)
            .collect()
    }

    /// How many nodes have the whole file.
    pub(super) fn complete(&self) -> usize {
        let done = |node: &&Node<'_>| {
            node.json("tasks")
                .is_some_and(|tasks| tasks[0]["done"].as_u64() == Some(LENGTH as u64))
        };
        self.cluster.nodes().iter().filter(done).count()
    }

    fn wait(&mut self, began: SystemTime, fault: &Fault) -> Vec<Option<Fared>> {
        let give_up = Instant::now() + PATIENCE;
        let gets = std::mem::take(&mut self.gets);
        let mut fared = Vec::new();
        for (place, get) in gets.into_iter().enumerate() {
            let Some(mut get) = get.filter(|_| !fault.struck.contains(&place)) else {
                fared.push(None);
                continue;
            };
            let mut code = None;
            while get.process.is_running() {
                if Instant::now() > give_up {
                    get.process.kill();
                    break;
                }
                thread::sleep(LOOK_EVERY);
            }
            if Instant::now() <= give_up {
                code = get.process.wait().code();
            }
            // The last thing that a get does is to say how it ended.
            let ended = fs::metadata(&get.log).unwrap().modified().unwrap();
            let node = &self.cluster.nodes()[place];
            let got = sha256_of(&output(node));
            fared.push(Some(Fared {
                host: node.host().name().to_owned(),
                code,
                took: ended.duration_since(began).unwrap_or_default(),
                is_absent: got.is_none(),
                is_right: got.is_some_and(|got| got == self.right),
                said: get.process.log(),
            }));
        }
        fared
    }

    fn judges(&self) -> usize {
        let suspect = self.cluster.nodes()[1].peer_id();
        let isolates = |node: &&Node<'_>| {
            let Some(Value::Array(peers)) = node.json("peers") else {
                return false;
            };
            peers
                .iter()
                .any(|peer| peer["peer"] == suspect.as_str() && peer["isolated"] == true)
        };
        self.cluster.nodes().iter().filter(isolates).count()
    }
}
