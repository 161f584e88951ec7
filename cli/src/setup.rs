//! `dfnode setup`: what makes a container engine pull through this host's node.
//!
//! Only files that are dfnode's own are written: engines read further files beside those of the administrator. Where
//! an engine knows no such place, what is to be changed is shown and nothing is touched. No engine is restarted.

mod engines;
mod files;
mod probe;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::anyhow;
use dfnode_proxy::Ca;

use crate::args::{Engine, Mode, SetupArgs};
use crate::ca::is_trusted;
use crate::config::{node_folder, read_usual_file};
use crate::exit::{Exit, Failure};
use crate::say;
use crate::words::StatusAddr;

use files::Written;

/// What is to be done for one engine.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// Files of our own.
    files: Vec<OwnFile>,
    /// What only the administrator can change, in words.
    by_hand: Vec<String>,
    /// What makes the engine notice.
    then: String,
    /// What takes effect while the node is down.
    when_down: &'static str,
}

/// A file that is dfnode's own.
#[derive(Debug, PartialEq, Eq)]
struct OwnFile {
    /// Where.
    path: PathBuf,
    /// What is in it; its first line says whose it is.
    text: String,
}

/// `dfnode setup …`.
pub(crate) fn command(args: &SetupArgs) -> Result<Exit, Failure> {
    let mode = args.mode.unwrap_or(match args.engine {
        Engine::Containerd => Mode::Mirror,
        Engine::Docker | Engine::Podman | Engine::Crio => Mode::Proxy,
    });
    if args.undo {
        return undo(args);
    }
    let in_file = read_usual_file()?.and_then(|said| said.proxy);
    let proxy = listens(args.proxy, in_file)?;
    let plan = engines::plan(args, mode, proxy)?;
    if !args.write {
        return show(args, &plan);
    }
    check(args, mode, proxy)?;
    for file in &plan.files {
        files::check(file)?;
    }
    for file in &plan.files {
        match files::write(file)? {
            Written::New => say::note(format!("wrote {}", file.path.display())),
            Written::Replaced(backup) => say::note(format!(
                "wrote {}; what was there is in {}",
                file.path.display(),
                backup.display()
            )),
            Written::Same => say::note(format!("{} is as it should be", file.path.display())),
        }
    }
    for step in plan.by_hand.iter().chain([&plan.then]) {
        say::note(step);
    }
    Ok(Exit::Ok)
}

/// Where the proxy is: what was typed wins over the configuration file.
fn listens(typed: Option<StatusAddr>, in_file: Option<StatusAddr>) -> Result<SocketAddr, Failure> {
    match typed.or(in_file) {
        Some(StatusAddr::At(proxy)) => Ok(proxy),
        None => Ok(usual_proxy()),
        Some(StatusAddr::Off) => Err(Failure::usage(
            "the proxy is off: there is nothing for an engine to pull through; say with --proxy where it listens",
        )),
    }
}

fn usual_proxy() -> SocketAddr {
    dfnode_proxy::Config::new(PathBuf::new()).listen
}

/// What is to be trusted and to be reached before anything is written.
fn check(args: &SetupArgs, mode: Mode, proxy: SocketAddr) -> Result<(), Failure> {
    probe::check(proxy)?;
    if mode == Mode::Mirror {
        return Ok(());
    }
    match Ca::load(&node_folder(args.data.as_deref())?)? {
        Some(ca) if is_trusted(&ca) => Ok(()),
        Some(_) | None => {
            let what = "this system does not trust the proxy's certificate authority yet; run `dfnode ca install` first";
            Err(Failure::new(Exit::Other, anyhow!(what)))
        }
    }
}

fn show(args: &SetupArgs, plan: &Plan) -> Result<Exit, Failure> {
    for file in &plan.files {
        say::line(format!("# {}\n{}", file.path.display(), file.text))?;
    }
    for step in plan.by_hand.iter().chain([&plan.then]) {
        say::line(step)?;
    }
    say::line(plan.when_down)?;
    if plan.files.is_empty() {
        return Ok(Exit::Ok);
    }
    let engine = engines::name(args.engine);
    say::line(format!(
        "Nothing was changed; `dfnode setup {engine} --write` writes it."
    ))
}

fn undo(args: &SetupArgs) -> Result<Exit, Failure> {
    let mut found = false;
    for mode in [Mode::Proxy, Mode::Mirror] {
        // Not every engine has every mode.
        let files =
            engines::plan(args, mode, usual_proxy()).map_or_else(|_| Vec::new(), |plan| plan.files);
        for file in files {
            if files::undo(&file)? {
                say::note(format!("took back {}", file.path.display()));
                found = true;
            }
        }
    }
    if found {
        say::note(engines::restart(args.engine));
    } else {
        say::note("there is nothing of dfnode's to take back");
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests;
