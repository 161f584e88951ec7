//! The binary `dfnode`: words typed, files written, numbers returned.

mod args;
mod ca;
mod config;
mod exit;
mod get;
mod key;
mod list;
mod log;
mod place;
mod run;
mod say;
mod setup;
mod signals;
mod start;
mod threads;
mod words;

use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use tokio::runtime::{Builder, Runtime};

use args::{Cli, Command, ConfigCommand, LogArgs};
use config::Settings;
use exit::{Exit, Failure};

/// How long threads are waited for that read, write or tidy up.
const GOODBYE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    let matches = usual(Cli::command()).get_matches();
    let outcome = match Cli::from_arg_matches(&matches) {
        Ok(cli) => dispatch(cli, leaf(&matches)),
        Err(error) => error.exit(),
    };
    let exit = match outcome {
        Ok(exit) => exit,
        Err(failure) if say::is_broken_pipe(&failure) => Exit::Ok,
        Err(failure) => {
            say::note(format!("dfnode: {:#}", failure.error));
            failure.exit
        }
    };
    // Threads that are stuck in a slow read or write are not waited for.
    std::process::exit(exit.code().into())
}

fn dispatch(cli: Cli, matches: &ArgMatches) -> Result<Exit, Failure> {
    match cli.command {
        Command::Run(args) => {
            let settings = Settings::load(&args, &cli.log, matches)?;
            let said = &settings.said;
            log::start(
                said.log_format,
                said.log_level.as_deref(),
                log::DEFAULT_LEVEL,
            )?;
            on(threads::of_node()?, run::command(settings))
        }
        Command::Get(args) => on(one_thread(&cli.log)?, get::command(*args)),
        Command::Status(args) => on(one_thread(&cli.log)?, list::status(&args)),
        Command::Peers(args) => on(one_thread(&cli.log)?, list::peers(&args)),
        Command::Tasks(args) => on(one_thread(&cli.log)?, list::tasks(&args)),
        Command::Rm(args) => on(one_thread(&cli.log)?, list::remove(args)),
        Command::Key(command) => key::command(command),
        Command::Ca(command) => ca::command(command),
        Command::Setup(args) => setup::command(&args),
        Command::Config(ConfigCommand::Check(args)) => {
            config::check_command(&Settings::load(&args, &cli.log, matches)?)
        }
        Command::Config(ConfigCommand::Print(args)) => {
            config::print_command(&Settings::load(&args, &cli.log, matches)?)
        }
    }
}

/// Runs `command` on `runtime`, and ends that.
///
/// Dropped, a runtime waits for threads that are stuck in a write to a pipe that nobody reads.
fn on<T>(runtime: Runtime, command: impl Future<Output = T>) -> T {
    let outcome = runtime.block_on(command);
    runtime.shutdown_timeout(GOODBYE);
    outcome
}

/// For a command that asks a node: it starts in no time.
fn one_thread(log: &LogArgs) -> Result<Runtime, Failure> {
    log::start(log.log_format, log.log_level.as_deref(), log::QUIET_LEVEL)?;
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// The command as everybody uses it: a variable that is empty says nothing.
fn usual(command: clap::Command) -> clap::Command {
    let names: Vec<_> = command
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .collect();
    let command = command.mut_args(|argument| {
        let is_empty = argument
            .get_env()
            .and_then(std::env::var_os)
            .is_some_and(|value| value.is_empty());
        if is_empty {
            argument.env(None::<&'static str>)
        } else {
            argument
        }
    });
    names
        .iter()
        .fold(command, |command, name| command.mut_subcommand(name, usual))
}

/// What was said to the innermost command.
fn leaf(matches: &ArgMatches) -> &ArgMatches {
    match matches.subcommand() {
        Some((_, inner)) => leaf(inner),
        None => matches,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_thread_that_is_stuck_is_not_waited_for() {
        let (news, never) = mpsc::channel::<()>();
        let runtime = Builder::new_current_thread().build().unwrap();
        let word = on(runtime, async move {
            drop(tokio::task::spawn_blocking(move || never.recv()));
            "done"
        });
        assert_eq!(word, "done");
        drop(news);
    }
}
