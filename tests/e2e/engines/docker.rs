//! A docker daemon, and the `docker` that talks to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::{PROXY, Way, command, run};
use crate::lab::{Finished, Host, Process};
use crate::registries::User;

/// How long the daemon may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How often it is started: it gives its own containerd 15 s, too few where six write the disk of one machine.
const STARTS: u32 = 3;

/// A running dockerd.
pub(crate) struct Docker<'lab> {
    host: &'lab Host,
    process: Process,
    socket: PathBuf,
}

impl<'lab> Docker<'lab> {
    /// Starts one that pulls by `way`; no network but the host's, and no containers to be run.
    pub(super) fn start(host: &'lab Host, way: Way) -> Self {
        let dir = host.dir().join("docker");
        fs::create_dir_all(&dir).unwrap();
        let mut settings = serde_json::json!({
            "bridge": "none",
            "iptables": false,
            "ip6tables": false,
            // Plain HTTP for one name, as an intranet has it; loopback is allowed anyhow.
            "insecure-registries": ["registry.test:80"],
        });
        if way == Way::Mirror {
            settings["registry-mirrors"] = serde_json::json!([format!("http://{PROXY}")]);
        }
        fs::write(dir.join("daemon.json"), settings.to_string()).unwrap();
        let socket = dir.join("docker.sock");
        let mut log = String::new();
        for _ in 0..STARTS {
            match Self::begin(host, way, &socket).wait_until_it_answers() {
                Ok(docker) => return docker,
                Err(why) => log = why,
            }
        }
        panic!("no docker on {}: {log}", host.name());
    }

    fn begin(host: &'lab Host, way: Way, socket: &Path) -> Self {
        let dir = host.dir().join("docker");
        let mut daemon = command(host, way, "dockerd");
        daemon.arg("--config-file").arg(dir.join("daemon.json"));
        daemon.arg(format!("--host=unix://{}", socket.display()));
        Self {
            host,
            process: Process::start(&mut daemon, &dir.join("dockerd.log")),
            socket: socket.to_owned(),
        }
    }

    fn wait_until_it_answers(mut self) -> Result<Self, String> {
        let give_up = Instant::now() + START_TIMEOUT;
        while run(self.command(&["version"])).is_err() {
            if !self.process.is_running() || Instant::now() > give_up {
                return Err(self.process.log());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(self)
    }

    /// `docker ARGS…`. The daemon pulls, so this command needs no proxy.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut docker = command(self.host, Way::Native, "docker");
        docker.arg(format!("--host=unix://{}", self.socket.display()));
        docker.args(args);
        docker
    }

    /// Pulls `image` as `user`, who is logged in before and out afterwards; says its id.
    pub(super) fn pull(&self, image: &str, user: Option<User>) -> Result<String, Box<Finished>> {
        let registry = image
            .split_once('/')
            .map_or("", |(registry, _name)| registry);
        // Docker Hub goes without its name.
        let registry = if registry.contains('.') { registry } else { "" };
        if let Some(user) = user {
            self.login(registry, user)?;
        }
        let pulled = run(self.command(&["pull", "--quiet", image]));
        if user.is_some() {
            run(self.command(&["logout", registry]))?;
        }
        pulled?;
        self.id(image)
    }

    /// `docker login`; the password is kept in the host's own /root.
    pub(crate) fn login(&self, registry: &str, user: User) -> Result<Finished, Box<Finished>> {
        let mut words = vec![
            "login",
            "--username",
            user.name,
            "--password",
            user.password,
        ];
        if !registry.is_empty() {
            words.push(registry);
        }
        run(self.command(&words))
    }

    /// The id under which docker has `image`.
    pub(crate) fn id(&self, image: &str) -> Result<String, Box<Finished>> {
        let found = run(self.command(&["image", "inspect", "--format", "{{.Id}}", image]))?;
        Ok(found.stdout.trim().to_owned())
    }

    /// Forgets `image`, so that the next pull fetches all of it again.
    pub(crate) fn remove(&self, image: &str) -> Result<Finished, Box<Finished>> {
        run(self.command(&["image", "rm", "--force", image]))
    }

    /// What the daemon printed.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }
}
