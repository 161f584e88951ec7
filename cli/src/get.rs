//! `dfnode get`: one URL to one file, by whatever node there is.

mod embedded;
mod name;
mod node;
mod output;
mod progress;
mod report;
mod request;
mod session;

use std::time::Duration;

use dfnode_node::ambient::Clock;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::args::{GetArgs, GetOptions};
use crate::config;
use crate::exit::{Exit, Failure};
use crate::say;
use crate::signals;

use node::NodeFinder;
use output::Output;
use progress::Progress;
use report::Report;
use session::Session;

/// How long a write may take to end after Ctrl-C.
const GOODBYE: Duration = Duration::from_secs(2);

/// Where the report goes as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Stdout,
    /// Stdout is the file's.
    Stderr,
}

/// Downloads one URL.
pub(crate) async fn command(args: GetArgs) -> Result<Exit, Failure> {
    let options = options(&args)?;
    let request = request::build(&args, &options)?;
    let path = args
        .output
        .clone()
        .unwrap_or_else(|| name::of(&request.url));
    let report = Report::new(&request.url, &path);
    let (quiet, json) = (options.quiet == Some(true), options.json == Some(true));
    let stop = CancellationToken::new();
    let started = Clock::now();
    let mut session = Session {
        request,
        finder: NodeFinder::new(args.node.clone()),
        output: None,
        report,
        progress: Progress::new(quiet || json, started),
        stop,
        started,
    };
    let range = session.request.range;
    let outcome = match Output::open(&path, range, session.stop.clone()) {
        Ok(output) => {
            session.output = Some(output);
            interruptible(&mut session).await
        }
        Err(error) => Err(session::unwritable(error)),
    };
    let is_stdout = output::is_stdout(&path);
    let outcome = forgive_broken_pipe(outcome, is_stdout);
    let told = json.then_some(if is_stdout {
        Told::Stderr
    } else {
        Told::Stdout
    });
    finish(session, outcome, &options, told).await
}

/// Downloads until it is done or somebody presses Ctrl-C.
async fn interruptible(session: &mut Session) -> Result<Exit, Failure> {
    let stop = session.stop.clone();
    let mut download = Box::pin(session.run());
    tokio::select! {
        biased;
        outcome = &mut download => return outcome,
        () = signals::asked_to_stop() => stop.cancel(),
    }
    // A file that is half written is removed; a pipe that takes nothing is not waited for.
    timeout(GOODBYE, download)
        .await
        .unwrap_or_else(|_| Err(session::interrupted()))
}

/// Says how it ended, stays a while if there is somebody to stay for, and stops the node in this process.
async fn finish(
    mut session: Session,
    outcome: Result<Exit, Failure>,
    options: &GetOptions,
    told: Option<Told>,
) -> Result<Exit, Failure> {
    let seconds = Clock::now().saturating_since(session.started).as_secs_f64();
    session.report.end(seconds, &outcome);
    session
        .progress
        .end(outcome.is_ok().then(|| session.report.line()).as_deref());
    let printed = told.map_or(Ok(Exit::Ok), |told| print(&session.report, told));
    // Removes what is half written before anything that takes time.
    session.output = None;
    if let Some(embedded) = session.finder.into_embedded() {
        if outcome.is_ok() {
            embedded
                .linger(options.linger.map(|span| span.0), &session.progress)
                .await;
        }
        embedded.stop().await;
    }
    // Why a download failed matters more than that nobody could be told.
    outcome.and_then(|exit| printed.map(|_| exit))
}

fn print(report: &Report, told: Told) -> Result<Exit, Failure> {
    let object = serde_json::to_string(report)?;
    match told {
        Told::Stdout => say::line(object),
        Told::Stderr => {
            say::note(object);
            Ok(Exit::Ok)
        }
    }
}

/// Who reads our stdout may stop when it has seen enough, as `head` does.
fn forgive_broken_pipe(outcome: Result<Exit, Failure>, is_stdout: bool) -> Result<Exit, Failure> {
    match outcome {
        Err(failure) if is_stdout && output::is_broken_pipe(&failure) => Ok(Exit::Ok),
        outcome => outcome,
    }
}

/// What was typed, over what the file says in its `[get]` part.
fn options(args: &GetArgs) -> Result<GetOptions, Failure> {
    let Some(file) = config::read_file(args.node.config.as_deref())?.and_then(|file| file.get)
    else {
        return Ok(args.options.clone());
    };
    config::overlay(config::table_of(&file)?, config::table_of(&args.options)?)
}

#[cfg(test)]
mod tests;
