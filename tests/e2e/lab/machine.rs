//! A host whose files are its own: what container engines need beside a network of their own.
//!
//! Everything that the machine has is there to read; what is written stays in memory and goes with the
//! host. `/etc` (trusted authorities, settings), `/run` (sockets) and `/tmp` are thus private. The
//! engines' folders are real ones below the lab's, since an engine's overlay cannot lie on an overlay.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::netns::Netns;
use super::process::Process;

/// Builds the root and then only keeps it: arguments are the host's folder, the lab's, and the
/// host's name. `ip netns exec` would hide the control groups, hence the plain `nsenter` around it.
const SET_UP: &str = r#"
set -eu
dir=$1 lab=$2 name=$3
hostname "$name"
mount --make-rprivate /
mkdir -p "$dir/root"
mount -t tmpfs tmpfs "$dir/root"
mkdir "$dir/root/upper" "$dir/root/work" "$dir/root/merged"
mount -t overlay overlay -o "lowerdir=/,upperdir=$dir/root/upper,workdir=$dir/root/work" "$dir/root/merged"
cd "$dir/root/merged"
for kernel in proc sys dev; do mount --rbind /$kernel $kernel; done
mkdir -p "./$lab"
mount --bind "$lab" "./$lab"
for engine in docker containerd containers; do
    mkdir -p "$dir/volumes/$engine" var/lib/$engine
    mount --bind "$dir/volumes/$engine" var/lib/$engine
done
mount -t tmpfs tmpfs run
mkdir run/lock
cp "$dir"/etc/* etc/
mkdir -p usr/local/share/ca-certificates
cp "$dir/authority.pem" usr/local/share/ca-certificates/lab-internet.crt
cat "$dir/authority.pem" >> etc/ssl/certs/ca-certificates.crt
mkdir .old
pivot_root . .old
cd /
umount -l /.old
rmdir /.old
touch "$dir/furnished"
exec sleep infinity
"#;

/// How long building the root may take on a busy machine.
const SET_UP_TIMEOUT: Duration = Duration::from_secs(20);

/// The private root of a host, for as long as its keeper runs.
pub(super) struct Machine {
    keeper: Process,
    net: PathBuf,
}

impl Machine {
    /// Builds a root for the host `name` in `dir`, which trusts `authority` (PEM) as it does the
    /// public ones, and has the files `etc` in its /etc.
    pub(super) fn furnish(
        netns: &Netns,
        name: &str,
        dir: &Path,
        lab: &Path,
        authority: &str,
        etc: &[(&str, &str)],
    ) -> Self {
        fs::create_dir(dir.join("etc")).unwrap();
        for (file, text) in etc {
            fs::write(dir.join("etc").join(file), text).unwrap();
        }
        fs::write(dir.join("authority.pem"), authority).unwrap();
        let net = netns.path();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", net.display()));
        command.args(["unshare", "--mount", "--uts", "--ipc", "sh", "-c", SET_UP]);
        command.args(["sh".as_ref(), dir, lab, name.as_ref()]);
        let mut keeper = Process::start(&mut command, &dir.join("keeper.log"));
        let give_up = Instant::now() + SET_UP_TIMEOUT;
        while !dir.join("furnished").exists() {
            assert!(
                keeper.is_running() && Instant::now() < give_up,
                "{name} has no root of its own: {}",
                keeper.log()
            );
            thread::sleep(Duration::from_millis(2));
        }
        Self { keeper, net }
    }

    /// A command that will run `program` inside. The child's pid is the program's: `nsenter` execs it.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let keeper = self.keeper.pid().as_raw_nonzero();
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.net.display()));
        for kind in ["mnt", "uts", "ipc"] {
            let option = if kind == "mnt" { "mount" } else { kind };
            command.arg(format!("--{option}=/proc/{keeper}/ns/{kind}"));
        }
        command.arg("--").arg(program);
        command
    }
}
