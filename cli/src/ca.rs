//! `dfnode ca`: the certificate authority of the proxy, and who trusts it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, anyhow, bail};
use dfnode_proxy::Ca;

use crate::args::{CaArgs, CaCommand};
use crate::config::node_folder;
use crate::exit::{Exit, Failure};
use crate::say;
use crate::start::make_folder;

/// The name of the certificate among those that a system trusts.
const FILE: &str = "dfnode.crt";

/// Every user's programs read it.
const CERTIFICATE_MODE: u32 = 0o644;

/// Where a system keeps what its administrator trusts, and what makes the change known.
const STORES: &[(&str, &str)] = &[
    ("/usr/local/share/ca-certificates", "update-ca-certificates"),
    ("/etc/pki/ca-trust/source/anchors", "update-ca-trust"),
    (
        "/etc/ca-certificates/trust-source/anchors",
        "update-ca-trust",
    ),
];

/// `dfnode ca …`.
pub(crate) fn command(command: CaCommand) -> Result<Exit, Failure> {
    match command {
        CaCommand::Install(args) => install(&folder(&args)?),
        CaCommand::Path(args) => {
            let data = folder(&args)?;
            existing(&data)?;
            say::line(Ca::certificate_path(&data).display())
        }
        CaCommand::Print(args) => say::text(existing(&folder(&args)?)?.pem()),
        CaCommand::Remove(args) => remove(&folder(&args)?),
    }
}

fn folder(args: &CaArgs) -> Result<PathBuf, Failure> {
    node_folder(args.data.as_deref())
}

fn existing(data: &Path) -> Result<Ca, Failure> {
    let found = Ca::load(data)?;
    let absent = || {
        let what = format!(
            "there is no certificate authority in {}; `dfnode ca install` makes one",
            data.display()
        );
        Failure::new(Exit::Other, anyhow!(what))
    };
    found.ok_or_else(absent)
}

/// Where this system keeps what it trusts.
fn store() -> Option<(PathBuf, &'static str)> {
    STORES
        .iter()
        .find(|(folder, _)| Path::new(folder).is_dir())
        .map(|(folder, update)| (Path::new(folder).join(FILE), *update))
}

/// Whether this system has been told to trust `ca`.
pub(crate) fn is_trusted(ca: &Ca) -> bool {
    let pem = store().and_then(|(path, _)| fs::read_to_string(path).ok());
    pem.as_deref() == Some(ca.pem())
}

fn install(data: &Path) -> Result<Exit, Failure> {
    make_folder(data)?;
    let ca = Ca::load_or_create(data)?;
    let certificate = Ca::certificate_path(data);
    say::note(format!("the certificate is {}", certificate.display()));
    let Some((path, update)) = store() else {
        let what =
            "this system keeps its trusted certificates where dfnode does not know; add it by hand";
        return Err(Failure::new(Exit::Other, anyhow!(what)));
    };
    if !rustix::process::geteuid().is_root() {
        let what = format!(
            "only root can have the system trust it: cp {} {} && {update}",
            certificate.display(),
            path.display()
        );
        return Err(Failure::new(Exit::Other, anyhow!(what)));
    }
    if let Ok(there) = fs::read(&path)
        && !is_ours(&there)
    {
        let what = format!("{} is there already and is not dfnode's", path.display());
        return Err(Failure::new(Exit::Other, anyhow!(what)));
    }
    fs::write(&path, ca.pem())
        .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(CERTIFICATE_MODE)))
        .with_context(|| format!("cannot write {}", path.display()))?;
    run(update)?;
    say::note(
        "this system's programs trust it now; those that run already may have to be restarted \
         (dockerd and containerd have)",
    );
    Ok(Exit::Ok)
}

fn remove(data: &Path) -> Result<Exit, Failure> {
    if let Some((path, update)) = store() {
        match fs::read(&path) {
            Ok(there) if is_ours(&there) => {
                fs::remove_file(&path)
                    .with_context(|| format!("cannot remove {}", path.display()))?;
                run(update)?;
            }
            Ok(_) | Err(_) => {}
        }
    }
    for path in [Ca::key_path(data), Ca::certificate_path(data)] {
        match fs::remove_file(&path) {
            Ok(()) => say::note(format!("removed {}", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let what = Err::<(), _>(error)
                    .with_context(|| format!("cannot remove {}", path.display()));
                what?;
            }
        }
    }
    say::note("a node that runs keeps its own until it is restarted");
    Ok(Exit::Ok)
}

/// Whether a file is a certificate of a dfnode proxy.
fn is_ours(pem: &[u8]) -> bool {
    dfnode_proxy::is_own_certificate(pem)
}

fn run(program: &str) -> anyhow::Result<()> {
    let output = Command::new(program)
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        bail!(
            "{program} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
