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
    let outcome = forgive_broken_pipe(outcome, output::is_stdout(&path));
    finish(session, outcome, &options, json).await
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
    json: bool,
) -> Result<Exit, Failure> {
    let seconds = Clock::now().saturating_since(session.started).as_secs_f64();
    session.report.end(seconds, &outcome);
    session
        .progress
        .end(outcome.is_ok().then(|| session.report.line()).as_deref());
    if json {
        let object = serde_json::to_string(&session.report)?;
        if session.output.as_ref().is_some_and(Output::is_stdout) {
            say::note(object);
        } else {
            say::line(object)?;
        }
    }
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
    outcome
}

/// Who reads our stdout may stop when it has seen enough, as `head` does.
fn forgive_broken_pipe(outcome: Result<Exit, Failure>, is_stdout: bool) -> Result<Exit, Failure> {
    match outcome {
        Err(failure) if is_stdout && say::is_broken_pipe(&failure) => Ok(Exit::Ok),
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
