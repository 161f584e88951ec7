//! The engines that are commands without a daemon.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{PROXY, Way, command, fresh_folder, run};
use crate::lab::{Finished, Host};
use crate::registries::User;

/// `podman pull`; says the image's id.
pub(super) fn podman(
    host: &Host,
    way: Way,
    image: &str,
    user: Option<User>,
) -> Result<String, Box<Finished>> {
    let mut podman = command(host, way, "podman");
    if way == Way::Mirror {
        write_mirror(host);
    }
    podman
        .args(["pull", "--quiet"])
        .args(credentials(user))
        .arg(full_name(image));
    Ok(id(&run(podman)?))
}

/// `buildah pull`, with a storage of its own: podman's would have the layers already. It asks the
/// registry even for what it has, as podman does.
pub(super) fn buildah(
    host: &Host,
    way: Way,
    image: &str,
    user: Option<User>,
) -> Result<String, Box<Finished>> {
    let mut buildah = command(host, way, "buildah");
    buildah.args(["--root", "/var/lib/containers/buildah"]);
    buildah.args(["--runroot", "/run/containers/buildah"]);
    buildah
        .args(["pull", "--quiet", "--policy", "always"])
        .args(credentials(user))
        .arg(full_name(image));
    Ok(id(&run(buildah)?))
}

/// `skopeo copy` to a folder; says the digest of the configuration that it found.
pub(super) fn skopeo(
    host: &Host,
    way: Way,
    image: &str,
    user: Option<User>,
) -> Result<String, Box<Finished>> {
    let folder = fresh_folder(host, "skopeo");
    let mut skopeo = command(host, way, "skopeo");
    skopeo.args(["copy", "--quiet"]);
    if let Some(user) = user {
        skopeo
            .arg("--src-creds")
            .arg(format!("{}:{}", user.name, user.password));
    }
    skopeo.arg(format!("docker://{}", full_name(image)));
    skopeo.arg(format!("dir:{}", folder.display()));
    run(skopeo)?;
    Ok(config_digest(&folder))
}

/// The digest of the configuration of the image in a folder of skopeo's.
fn config_digest(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&text).unwrap();
    let digest = manifest["config"]["digest"].as_str();
    digest.unwrap_or_default().to_owned()
}

fn credentials(user: Option<User>) -> Vec<String> {
    let text = user.map(|user| format!("--creds={}:{}", user.name, user.password));
    text.into_iter().collect()
}

/// What was printed last, as docker writes it.
fn id(done: &Finished) -> String {
    let hex = done.stdout.lines().last().unwrap_or_default().trim();
    format!("sha256:{}", hex.trim_start_matches("sha256:"))
}

/// The name with its registry, which these tools want spelt out.
fn full_name(image: &str) -> String {
    let registry = image
        .split_once('/')
        .map_or("", |(registry, _name)| registry);
    match (registry.contains('.'), image.contains('/')) {
        (true, _) => image.to_owned(),
        (false, true) => format!("docker.io/{image}"),
        (false, false) => format!("docker.io/library/{image}"),
    }
}

/// Tells podman and its kin that the host's node mirrors Docker Hub.
fn write_mirror(host: &Host) {
    let text = format!(
        "[[registry]]\nlocation = \"docker.io\"\n[[registry.mirror]]\nlocation = \"{PROXY}\"\ninsecure = true\n"
    );
    // The host's /etc is its own, so it is written from inside.
    let mut tee = host.command("sh");
    tee.args([
        "-c",
        "printf %s \"$1\" > /etc/containers/registries.conf.d/mirror.conf",
        "sh",
        &text,
    ]);
    assert!(tee.status().unwrap().success(), "the mirror of podman");
}
