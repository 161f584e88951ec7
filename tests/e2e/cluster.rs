//! Nodes of one cluster on the hosts of a lab.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::{Finished, Host, Job, Lab, Process, Usage};

/// The binary under test.
pub(crate) const DFNODE: &str = env!("CARGO_BIN_EXE_dfnode");
/// Set for the tests, it is the daemons' log level.
const LOG_LEVEL: &str = "DFNODE_E2E_LOG";
/// How long a node may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How the nodes of a [`Cluster`] are started.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Arguments of `dfnode run` beyond those that the cluster itself needs.
    pub(crate) run: Vec<String>,
    /// Environment of `dfnode run`.
    pub(crate) env: Vec<(String, String)>,
}

/// A daemon on each host of a lab, all with one key, all joined to the first; where the lab has zones, each is told its own.
pub(crate) struct Cluster<'lab> {
    nodes: Vec<Node<'lab>>,
}

impl<'lab> Cluster<'lab> {
    /// Starts a node on every host and waits until each sees all of them.
    pub(crate) fn start(lab: &'lab Lab) -> Self {
        Self::start_with(lab, &Options::default())
    }

    /// The same, with options.
    pub(crate) fn start_with(lab: &'lab Lab, options: &Options) -> Self {
        let mut cluster = Self::prepare(lab, options);
        cluster.start_all();
        cluster
    }

    /// Starts the nodes and waits until each sees all of them.
    pub(crate) fn start_all(&mut self) {
        for node in &mut self.nodes {
            node.start();
        }
        self.wait_for_members(self.nodes.len(), START_TIMEOUT);
    }

    /// Makes the key and the nodes; none runs yet.
    pub(crate) fn prepare(lab: &'lab Lab, options: &Options) -> Self {
        let key = lab.dir().join("cluster.key");
        write_key(&key);
        let first = lab.hosts()[0].name();
        let nodes = lab.hosts().iter().map(|host| {
            let mut options = options.clone();
            options
                .run
                .extend(["--cluster-key".to_owned(), key.display().to_string()]);
            if host.name() != first {
                options.run.extend(["--join".to_owned(), first.to_owned()]);
            }
            if lab.zones() > 1 {
                let zone = format!("zone-{}", host.zone() + 1);
                options.run.extend(["--zone".to_owned(), zone]);
            }
            Node::new(host, options)
        });
        Self {
            nodes: nodes.collect(),
        }
    }

    /// The nodes, in the order of the hosts.
    pub(crate) fn nodes(&self) -> &[Node<'lab>] {
        &self.nodes
    }

    /// The nodes, each to be handled by itself.
    pub(crate) fn into_nodes(self) -> Vec<Node<'lab>> {
        self.nodes
    }

    /// The node on the host of that number.
    pub(crate) fn node_mut(&mut self, place: usize) -> &mut Node<'lab> {
        &mut self.nodes[place]
    }

    /// Waits until every running node counts `members` members, and says how long that took.
    pub(crate) fn wait_for_members(&self, members: usize, timeout: Duration) -> Duration {
        let started = Instant::now();
        for node in self.nodes.iter().filter(|node| node.process.is_some()) {
            while node.members() != Some(members) {
                assert!(
                    started.elapsed() < timeout,
                    "{} counts {:?} members, not {members}:\n{}",
                    node.host.name(),
                    node.members(),
                    node.log()
                );
                thread::sleep(Duration::from_millis(50));
            }
        }
        started.elapsed()
    }
}

/// Writes a key that no other cluster has, for its owner alone.
pub(crate) fn write_key(path: &Path) {
    fs::write(path, new_key()).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A token that no other cluster has.
fn new_key() -> Vec<u8> {
    let made = Command::new(DFNODE).args(["key", "new"]).output().unwrap();
    assert!(made.status.success(), "dfnode key new: {made:?}");
    made.stdout
}

/// `dfnode` on `host`, with nothing of the machine's own settings.
pub(crate) fn dfnode(host: &Host) -> Command {
    let mut command = host.command("env");
    let home = format!("HOME={}", host.dir().display());
    command.args(["-i", &home, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", DFNODE]);
    command
}

/// One daemon, running or not, and its data folder.
pub(crate) struct Node<'lab> {
    host: &'lab Host,
    options: Options,
    data: PathBuf,
    process: Option<Process>,
}

impl<'lab> Node<'lab> {
    /// A node on `host`; it does not run yet.
    pub(crate) fn new(host: &'lab Host, options: Options) -> Self {
        Self {
            host,
            options,
            data: host.dir().join("data"),
            process: None,
        }
    }

    /// Sets a variable of the daemon's environment, for its next start.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        self.options.env.push((name.to_owned(), value.to_owned()));
    }

    /// Starts it, or starts it again.
    pub(crate) fn start(&mut self) {
        let mut command = self.host.command("env");
        command.args(["-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
        command.arg(format!("HOME={}", self.host.dir().display()));
        if let Ok(level) = env::var(LOG_LEVEL) {
            command.arg(format!("DFNODE_LOG_LEVEL={level}"));
        }
        command.args(
            self.options
                .env
                .iter()
                .map(|(name, value)| format!("{name}={value}")),
        );
        command
            .args([DFNODE, "run", "--no-mdns", "--data"])
            .arg(&self.data)
            .args(&self.options.run);
        self.process = Some(Process::start(&mut command, &self.log_file()));
    }

    /// Starts it and waits until it answers; says how long that took.
    pub(crate) fn start_and_wait(&mut self) -> Duration {
        let started = Instant::now();
        self.start();
        while self.status().is_none() {
            assert!(started.elapsed() < START_TIMEOUT, "{}", self.log());
            thread::sleep(Duration::from_millis(10));
        }
        started.elapsed()
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }

    /// The host it runs on.
    pub(crate) fn host(&self) -> &'lab Host {
        self.host
    }

    /// Its data folder.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// The process, for signals and costs. Panics while the node does not run.
    pub(crate) fn process(&mut self) -> &mut Process {
        self.process.as_mut().unwrap()
    }

    /// What the daemon has used since it was started.
    pub(crate) fn usage(&self) -> Usage {
        self.process.as_ref().unwrap().usage()
    }

    /// Everything it has logged, over all its starts.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// `dfnode ARGS… --data DATA`, to be run on this node's host.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = dfnode(self.host);
        command.args(args).arg("--data").arg(&self.data);
        command
    }

    /// `dfnode get URL -o OUTPUT` beside this node.
    pub(crate) fn get(&self, url: &str, output: &Path) -> Job {
        self.get_with(url, output, &[])
    }

    /// The same with further arguments.
    pub(crate) fn get_with(&self, url: &str, output: &Path, args: &[&str]) -> Job {
        let mut command = self.get_command(url, output);
        command.args(args);
        Job::new(command)
    }

    /// The command behind [`Node::get`], for those who start and kill it themselves.
    pub(crate) fn get_command(&self, url: &str, output: &Path) -> Command {
        let mut command = self.command(&["get", url, "--json"]);
        command.arg("-o").arg(output);
        command
    }

    /// The same for a user whose configuration is the node's: who finds no node joins its cluster, with its room.
    pub(crate) fn get_as_member(&self, url: &str, output: &Path) -> Command {
        let mut command = self.get_command(url, output);
        for pair in self.options.run.windows(2) {
            match pair[0].as_str() {
                "--cluster-key" | "--join" => drop(command.args(pair)),
                "--cache-size" => drop(command.env("DFNODE_CACHE_SIZE", &pair[1])),
                _ => {}
            }
        }
        command
    }

    /// Removes a file from the node's cache.
    pub(crate) fn forget(&self, url: &str) {
        assert!(self.command(&["rm", url]).status().unwrap().success());
    }

    /// What `dfnode WORD --json` prints, when it succeeds.
    pub(crate) fn json(&self, word: &str) -> Option<Value> {
        let output = self.command(&[word, "--json"]).output().unwrap();
        output
            .status
            .success()
            .then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// `dfnode status --json`.
    pub(crate) fn status(&self) -> Option<Value> {
        self.json("status")
    }

    /// The name under which its peers know it.
    pub(crate) fn peer_id(&self) -> String {
        let status = self.status().unwrap();
        status["peer"]
            .as_str()
            .unwrap_or_else(|| panic!("no peer in {status:#}"))
            .to_owned()
    }

    /// How many members it counts, itself included.
    pub(crate) fn members(&self) -> Option<usize> {
        let status = self.status()?;
        let peers = status["peers"].as_u64()?;
        usize::try_from(peers + 1).ok()
    }

    fn log_file(&self) -> PathBuf {
        self.host.dir().join("dfnode.log")
    }
}

/// The summary that `dfnode get --json` printed.
pub(crate) fn summary(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:#?}"))
}
