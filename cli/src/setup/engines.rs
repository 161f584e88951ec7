//! What each engine reads, and where.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use super::files::MARK;
use super::{OwnFile, Plan};
use crate::args::{Engine, Mode, SetupArgs};
use crate::exit::{Exit, Failure};

/// What is not to go through the proxy.
const DIRECT: &str = "localhost,127.0.0.1,::1";
const FAILS_CLOSED: &str =
    "While the node is down, nothing can be pulled: start dfnode before the engine.";
const FAILS_OPEN: &str = "While the node is down, pulls go straight to the registry.";

/// An engine as it is typed.
pub(super) const fn name(engine: Engine) -> &'static str {
    match engine {
        Engine::Docker => "docker",
        Engine::Containerd => "containerd",
        Engine::Podman => "podman",
        Engine::Crio => "crio",
    }
}

/// How an engine is made to notice.
pub(super) fn restart(engine: Engine) -> String {
    match engine {
        Engine::Docker => "Then: systemctl daemon-reload && systemctl restart docker".to_owned(),
        Engine::Containerd => {
            "containerd reads its mirrors anew at each pull; after a change of its environment: \
             systemctl daemon-reload && systemctl restart containerd"
                .to_owned()
        }
        Engine::Podman => {
            "podman reads it at its next start; there is nothing to restart.".to_owned()
        }
        Engine::Crio => "Then: systemctl daemon-reload && systemctl restart crio".to_owned(),
    }
}

/// What is to be done for an engine.
pub(super) fn plan(args: &SetupArgs, mode: Mode, proxy: SocketAddr) -> Result<Plan, Failure> {
    let url = format!("http://{proxy}");
    match (args.engine, mode) {
        (Engine::Docker, Mode::Proxy) => unit(args, "docker", &url),
        (Engine::Crio, Mode::Proxy) => unit(args, "crio", &url),
        (Engine::Containerd, Mode::Proxy) => unit(args, "containerd", &url),
        (Engine::Podman, Mode::Proxy) => Ok(podman(args, &url)),
        (Engine::Docker, Mode::Mirror) => Ok(docker_mirror(args, &url)),
        (Engine::Containerd, Mode::Mirror) => Ok(containerd_mirror(args, &url)),
        (Engine::Podman | Engine::Crio, Mode::Mirror) => {
            let what =
                "podman and CRI-O do not tell a mirror whose image they want; use --mode proxy";
            Err(Failure::new(Exit::Usage, anyhow!(what)))
        }
    }
}

fn etc(args: &SetupArgs, path: &str) -> PathBuf {
    args.root.join("etc").join(path)
}

/// A piece of a systemd unit that sets the environment of a daemon.
fn unit(args: &SetupArgs, service: &str, url: &str) -> Result<Plan, Failure> {
    let folder = etc(args, &format!("systemd/system/{service}.service.d"));
    let path = folder.join("dfnode.conf");
    if !args.undo
        && let Some(other) = other_proxy(&folder, &path)
    {
        let what = format!(
            "{} sets another proxy already; have dfnode use that one (dfnode run --upstream-proxy URL) and take it out there",
            other.display()
        );
        return Err(Failure::new(Exit::Other, anyhow!(what)));
    }
    let text = format!(
        "{MARK}\n[Service]\nEnvironment=\"HTTP_PROXY={url}\"\nEnvironment=\"HTTPS_PROXY={url}\"\n\
         Environment=\"NO_PROXY={DIRECT}\"\n"
    );
    Ok(Plan {
        files: vec![OwnFile { path, text }],
        by_hand: vec!["Before: dfnode ca install, so that the engine trusts the proxy.".to_owned()],
        then: restart(args.engine),
        when_down: FAILS_CLOSED,
    })
}

/// A file beside ours that names another proxy.
fn other_proxy(folder: &Path, ours: &Path) -> Option<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .ok()?
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|path| path != ours && path.extension().is_some_and(|end| end == "conf"))
        .collect();
    files.sort();
    files.into_iter().find(|path| {
        fs::read_to_string(path).is_ok_and(|text| {
            text.lines()
                .map(str::trim)
                .filter(|line| !line.starts_with(['#', ';']))
                .any(|line| line.to_ascii_uppercase().contains("HTTPS_PROXY="))
        })
    })
}

fn podman(args: &SetupArgs, url: &str) -> Plan {
    let text = format!(
        "{MARK}\n[engine]\nenv = [\"HTTP_PROXY={url}\", \"HTTPS_PROXY={url}\", \"NO_PROXY={DIRECT}\"]\n\n\
         # The proxy is this host's alone: containers would not reach it.\n[containers]\nhttp_proxy = false\n"
    );
    Plan {
        files: vec![OwnFile {
            path: etc(args, "containers/containers.conf.d/60-dfnode.conf"),
            text,
        }],
        by_hand: vec![
            "Before: dfnode ca install, so that podman trusts the proxy.".to_owned(),
            format!("skopeo has no such file: HTTPS_PROXY={url} skopeo …"),
        ],
        then: restart(args.engine),
        when_down: FAILS_CLOSED,
    }
}

fn docker_mirror(args: &SetupArgs, url: &str) -> Plan {
    // The file is the administrator's, and can hold no mark.
    let path = etc(args, "docker/daemon.json");
    Plan {
        files: Vec::new(),
        by_hand: vec![
            format!(
                "In {}: {{ \"registry-mirrors\": [\"{url}\"] }}",
                path.display()
            ),
            "docker uses a mirror for images of Docker Hub alone.".to_owned(),
        ],
        then: "Then: systemctl reload docker".to_owned(),
        when_down: FAILS_OPEN,
    }
}

fn containerd_mirror(args: &SetupArgs, url: &str) -> Plan {
    let folder = etc(args, "containerd/certs.d");
    let text = format!("{MARK}\n[host.\"{url}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
    let config = etc(args, "containerd/config.toml");
    let has_path = fs::read_to_string(&config).is_ok_and(|text| {
        text.lines()
            .any(|line| line.trim().starts_with("config_path"))
    });
    let mut by_hand = Vec::new();
    if !has_path {
        by_hand.push(format!(
            "For Kubernetes, in {}, once, with a restart of containerd: \
             [plugins.\"io.containerd.grpc.v1.cri\".registry] config_path = \"{}\" \
             (containerd 2: [plugins.\"io.containerd.cri.v1.images\".registry]); ctr: --hosts-dir",
            config.display(),
            folder.display()
        ));
    }
    by_hand
        .push("A registry with a folder of its own in certs.d does not use _default.".to_owned());
    Plan {
        files: vec![OwnFile {
            path: folder.join("_default/hosts.toml"),
            text,
        }],
        by_hand,
        then: restart(args.engine),
        when_down: FAILS_OPEN,
    }
}
