//! A containerd of its own, asked by `ctr` and by CRI.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::{PROXY, Way, command, cri, run};
use crate::lab::{Finished, Host, Process};
use crate::registries::User;

/// How long the daemon may take until it answers.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A running containerd.
pub(super) struct Containerd<'lab> {
    host: &'lab Host,
    way: Way,
    process: Process,
    /// Where it looks for mirrors.
    certs: PathBuf,
    socket: PathBuf,
}

impl<'lab> Containerd<'lab> {
    /// Starts one that pulls by `way`.
    pub(super) fn start(host: &'lab Host, way: Way) -> Self {
        let dir = host.dir().join("containerd");
        let socket = dir.join("containerd.sock");
        let certs = match way {
            Way::Settings => PathBuf::from("/etc/containerd/certs.d"),
            Way::Native | Way::Proxy | Way::Mirror => dir.join("certs.d"),
        };
        if way == Way::Mirror {
            let folder = certs.join("_default");
            fs::create_dir_all(&folder).unwrap();
            let hosts =
                format!("[host.\"http://{PROXY}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
            fs::write(folder.join("hosts.toml"), hosts).unwrap();
        }
        fs::create_dir_all(dir.join("certs.d")).unwrap();
        fs::write(dir.join("config.toml"), configuration(&certs, &socket)).unwrap();
        let mut daemon = command(host, way, "containerd");
        daemon.arg("--config").arg(dir.join("config.toml"));
        let containerd = Self {
            host,
            way,
            process: Process::start(&mut daemon, &dir.join("containerd.log")),
            certs,
            socket,
        };
        containerd.wait_until_it_answers()
    }

    fn wait_until_it_answers(mut self) -> Self {
        let give_up = Instant::now() + START_TIMEOUT;
        while !self
            .client(Way::Native, &["version"])
            .output()
            .unwrap()
            .status
            .success()
            || !cri::is_ready(self.host, &self.socket)
        {
            assert!(
                self.process.is_running() && Instant::now() < give_up,
                "no containerd on {}: {}",
                self.host.name(),
                self.process.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
        self
    }

    fn client(&self, way: Way, args: &[&str]) -> Command {
        let mut ctr = command(self.host, way, "ctr");
        ctr.arg("--address").arg(&self.socket).args(args);
        ctr
    }

    /// `ctr images pull`, which fetches by itself; says the digest of the image's manifest.
    pub(super) fn ctr(&self, image: &str, user: Option<User>) -> Result<String, Box<Finished>> {
        let name = full_name(image);
        let mut pull = self.client(self.way, &["images", "pull", "--hosts-dir"]);
        pull.arg(&self.certs);
        if let Some(user) = user {
            pull.arg("--user")
                .arg(format!("{}:{}", user.name, user.password));
        }
        pull.arg(&name);
        run(pull)?;
        let filter = format!("name=={name}");
        let found = run(self.client(Way::Native, &["images", "ls", &filter]))?;
        let digest = found
            .stdout
            .split_whitespace()
            .find(|word| word.starts_with("sha256:"));
        Ok(digest.unwrap_or_default().to_owned())
    }

    /// What a kubelet asks; says the image's id.
    pub(super) fn cri(&self, image: &str, user: Option<User>) -> Result<String, Box<Finished>> {
        cri::pull(self.host, &self.socket, &full_name(image), user)
    }
}

/// The name with its registry and tag, which containerd wants spelt out.
fn full_name(image: &str) -> String {
    let registry = image
        .split_once('/')
        .map_or("", |(registry, _name)| registry);
    match (registry.contains('.'), image.contains('/')) {
        (true, _) => format!("{image}:latest"),
        (false, true) => format!("docker.io/{image}:latest"),
        (false, false) => format!("docker.io/library/{image}:latest"),
    }
}

fn configuration(certs: &Path, socket: &Path) -> String {
    format!(
        r#"
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
  address = "{}"
[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{}"
"#,
        socket.display(),
        certs.display()
    )
}
