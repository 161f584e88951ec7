//! Real container engines on a furnished host of the lab.
//!
//! docker and containerd are daemons, with their own settings for each [`Way`]; podman, skopeo, buildah
//! and `ctr` are commands and get theirs with each call.

mod containerd;
mod cri;
mod docker;
mod tools;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use self::containerd::Containerd;
use self::docker::Docker;
use crate::lab::{Finished, Host, Job};
use crate::registries::User;

/// The address of the proxy of a host's node.
pub(crate) const PROXY: &str = "127.0.0.1:65001";
/// What the engines' tests need installed.
#[rustfmt::skip]
pub(crate) const PROGRAMS: [&str; 8] = [
    "dockerd", "docker", "containerd", "ctr", "podman", "skopeo", "buildah", "curl",
];
/// How long one pull may take.
const PULL_TIMEOUT: Duration = Duration::from_mins(5);

/// How the engines of a host reach registries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// By themselves.
    Native,
    /// By the host's node, which `HTTPS_PROXY` names.
    Proxy,
    /// By the host's node as a mirror; a registry that no mirror setting covers is reached natively.
    Mirror,
    /// As the files in the host's `/etc` say, those of `dfnode setup` among them.
    Settings,
}

impl Way {
    /// The variables of `program` on `host` when it goes this way.
    fn environment(self, host: &Host, program: &str) -> Vec<String> {
        match self {
            Self::Native | Self::Mirror => Vec::new(),
            Self::Proxy => ["HTTPS_PROXY", "HTTP_PROXY"]
                .map(|name| format!("{name}=http://{PROXY}"))
                .to_vec(),
            Self::Settings => match program {
                "dockerd" => unit_environment(host, "docker"),
                "containerd" => unit_environment(host, "containerd"),
                _ => Vec::new(),
            },
        }
    }
}

/// What systemd would give to `service`, from the pieces beside its unit.
fn unit_environment(host: &Host, service: &str) -> Vec<String> {
    let mut cat = host.command("sh");
    cat.args(["-c", "cat /etc/systemd/system/$1.service.d/*.conf", "sh"]);
    let text = Job::new({
        cat.arg(service);
        cat
    })
    .run()
    .stdout;
    text.lines()
        .filter_map(|line| line.strip_prefix("Environment=\"")?.strip_suffix('"'))
        .map(str::to_owned)
        .collect()
}

/// Who pulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    /// `docker pull`.
    Docker,
    /// `ctr images pull`.
    Ctr,
    /// What a kubelet asks of containerd.
    Cri,
    /// `podman pull`.
    Podman,
    /// `skopeo copy` into a folder.
    Skopeo,
    /// `buildah pull`.
    Buildah,
}

impl Client {
    /// All of them.
    #[rustfmt::skip]
    pub(crate) const ALL: [Self; 6] = [
        Self::Docker, Self::Ctr, Self::Cri, Self::Podman, Self::Skopeo, Self::Buildah,
    ];
}

/// The engines of one host.
pub(crate) struct Engines<'lab> {
    host: &'lab Host,
    way: Way,
    docker: Option<Docker<'lab>>,
    containerd: Option<Containerd<'lab>>,
}

impl<'lab> Engines<'lab> {
    /// The engines of `host`; the daemons are started when they are first needed.
    pub(crate) fn new(host: &'lab Host, way: Way) -> Self {
        Self {
            host,
            way,
            docker: None,
            containerd: None,
        }
    }

    /// The docker of this host, started.
    pub(crate) fn docker(&mut self) -> &Docker<'lab> {
        let (host, way) = (self.host, self.way);
        self.docker.get_or_insert_with(|| Docker::start(host, way))
    }

    fn containerd(&mut self) -> &Containerd<'lab> {
        let (host, way) = (self.host, self.way);
        self.containerd
            .get_or_insert_with(|| Containerd::start(host, way))
    }

    /// Lets `client` pull `image` as `user`, and says under which digest it has the image then: of the
    /// configuration, except for `ctr`, which only knows the one of the manifest.
    pub(crate) fn pull(
        &mut self,
        client: Client,
        image: &str,
        user: Option<User>,
    ) -> Result<String, Box<Finished>> {
        let (host, way) = (self.host, self.way);
        match client {
            Client::Docker => self.docker().pull(image, user),
            Client::Ctr => self.containerd().ctr(image, user),
            Client::Cri => self.containerd().cri(image, user),
            Client::Podman => tools::podman(host, way, image, user),
            Client::Skopeo => tools::skopeo(host, way, image, user),
            Client::Buildah => tools::buildah(host, way, image, user),
        }
    }
}

/// `program` on `host` with the variables of `way`, and nothing of the machine's own settings.
pub(crate) fn command(host: &Host, way: Way, program: &str) -> Command {
    let mut command = host.command("env");
    command.args(["-i", "HOME=/root", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
    command.args(way.environment(host, program)).arg(program);
    command
}

/// Runs a command that must end within the time of a pull.
fn run(command: Command) -> Result<Finished, Box<Finished>> {
    let done = Job::new(command).within(PULL_TIMEOUT).run();
    if done.code == Some(0) {
        Ok(done)
    } else {
        Err(Box::new(done))
    }
}

/// A new folder of `host`, for what nobody looks at again.
fn fresh_folder(host: &Host, name: &str) -> PathBuf {
    static FOLDERS: AtomicU32 = AtomicU32::new(0);
    let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
    let folder = host.dir().join(format!("{name}-{number}"));
    fs::create_dir(&folder).unwrap();
    folder
}
