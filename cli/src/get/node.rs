//! The node that does a download: the one that runs on this host, else one in this process.

use std::time::Duration;

use anyhow::anyhow;
use dfnode_node::ambient::Clock;
use dfnode_node::control::{Client, ClientError, RemoteDownload, RemoteError};
use dfnode_node::get::{Caller, Download, GetError, GetEvent, GetRequest, Role};
use rustix::fs::{Access, access};
use tokio::time::{sleep, timeout};

use super::embedded::{Embedded, EmbeddedError};
use crate::args::EmbeddedArgs;
use crate::exit::{Exit, Failure};
use crate::place::{Place, find};

/// Between two looks for a node that is about to begin or to end.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How often to look: for ten seconds.
const LOOKS: u32 = 200;

/// How long a daemon that was lost may take to come back, as in a restart, until this process does without.
const DAEMON_PATIENCE: Duration = Duration::from_secs(20);

/// How long a node may take to say what it is.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

/// Finds a node, or is one.
#[derive(Debug)]
pub(super) struct NodeFinder {
    args: EmbeddedArgs,
    embedded: Option<Embedded>,
    /// Another user's daemon began the last download.
    had_daemon: bool,
}

/// A download that some node does.
#[derive(Debug)]
pub(super) enum Doing {
    /// The node of this host.
    Daemon(RemoteDownload),
    /// The node in this process.
    Embedded(Download),
}

/// Why a download ended without success.
#[derive(Debug)]
pub(super) enum Ended {
    /// It failed.
    Failed(GetError),
    /// The node went away; another one goes on.
    Lost(ClientError),
}

impl NodeFinder {
    /// Looks where `args` say.
    pub(super) const fn new(args: EmbeddedArgs) -> Self {
        Self {
            args,
            embedded: None,
            had_daemon: false,
        }
    }

    /// Has a node begin with `request`: again, if the one before was lost. A node in this process goes on from what a
    /// daemon had, unless that is another user's: then the daemon is waited for, as a node of this user's own would fetch
    /// all of it again.
    ///
    /// # Errors
    ///
    /// If none runs here and none can be started.
    pub(super) async fn begin(&mut self, request: &GetRequest) -> Result<Doing, Failure> {
        let mut last = None;
        let began = Clock::now();
        let had_daemon = std::mem::take(&mut self.had_daemon);
        let mut looks = 0;
        while looks < LOOKS {
            if let Some(download) = self.begin_embedded(request).await? {
                return Ok(Doing::Embedded(download));
            }
            match find(self.args.data.as_deref(), self.args.config.as_deref()).await {
                Ok((place, client)) => match client.get(request.clone()).await {
                    Ok(download) => {
                        let is_others = access(place.folder(), Access::WRITE_OK).is_err();
                        self.had_daemon = is_others && (had_daemon || is_daemon(&place).await);
                        return Ok(Doing::Daemon(download));
                    }
                    Err(ClientError::TooLong) => {
                        return Err(Failure::usage("the request is too long"));
                    }
                    Err(error) => last = Some((place, error)),
                },
                Err(missed) => {
                    last = missed.into_iter().next();
                    if had_daemon && Clock::now().saturating_since(began) < DAEMON_PATIENCE {
                        sleep(LOOK_AGAIN).await;
                        continue;
                    }
                    match Embedded::start(&self.args).await {
                        Ok(embedded) => {
                            self.embedded = Some(embedded);
                            looks += 1;
                            continue;
                        }
                        // Another process has the folder: its socket appears in a moment.
                        Err(EmbeddedError::Busy) => {}
                        Err(EmbeddedError::Failed(failure)) => return Err(failure),
                    }
                }
            }
            sleep(LOOK_AGAIN).await;
            looks += 1;
        }
        let (place, error) =
            last.ok_or_else(|| Failure::usage("there is nowhere to look for a node"))?;
        let what = format!(
            "another process uses {} and does not answer",
            place.folder().display()
        );
        Err(Failure::new(Exit::Other, anyhow!(error).context(what)))
    }

    /// The node in this process, if there is one.
    pub(super) fn into_embedded(self) -> Option<Embedded> {
        self.embedded
    }

    async fn begin_embedded(&mut self, request: &GetRequest) -> Result<Option<Download>, Failure> {
        let Some(embedded) = &self.embedded else {
            return Ok(None);
        };
        let caller = Caller {
            uid: rustix::process::getuid().as_raw(),
        };
        match embedded.handle().get(caller, request.clone()).await {
            Ok(download) => Ok(Some(download)),
            // It gives way to a daemon, which goes on from what it has.
            Err(GetError::Cancelled) => {
                if let Some(embedded) = self.embedded.take() {
                    embedded.stop().await;
                }
                Ok(None)
            }
            Err(error) => Err(Failure::from(error)),
        }
    }
}

/// Whether the node at `place` stays, as that of another download does not.
async fn is_daemon(place: &Place) -> bool {
    let ask = async {
        let mut client = Client::connect(&place.socket()).await?;
        client.status().await
    };
    let status = timeout(ANSWER_PATIENCE, ask).await;
    matches!(status, Ok(Ok(status)) if status.role == Role::Daemon)
}

impl Doing {
    /// Waits for the next event. Not to be asked again after an error.
    pub(super) async fn next(&mut self) -> Result<GetEvent, Ended> {
        match self {
            Self::Daemon(download) => match download.next().await {
                Some(Ok(event)) => Ok(event),
                Some(Err(RemoteError::Get(error))) => Err(Ended::of(error)),
                Some(Err(RemoteError::Lost(error))) => Err(Ended::Lost(error)),
                None => Err(Ended::Lost(ClientError::Gone)),
            },
            Self::Embedded(download) => match download.next().await {
                Some(Ok(event)) => Ok(event),
                Some(Err(error)) => Err(Ended::of(error)),
                None => Err(Ended::Lost(ClientError::Gone)),
            },
        }
    }
}

impl Ended {
    fn of(error: GetError) -> Self {
        if error == GetError::Cancelled {
            Self::Lost(ClientError::Gone)
        } else {
            Self::Failed(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{options, request, tests};
    use super::*;
    use crate::args::{Cli, Command};

    /// Who may use the folder itself goes on without a wait; what is done for others does not depend on who runs this.
    #[tokio::test]
    async fn another_users_daemon_that_restarts_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().display().to_string();
        let words = ["dfnode", "get", "http://source/file", "--data", &data];
        let Command::Get(args) = Cli::try_parse_from(words).unwrap().command else {
            panic!("a get")
        };
        let request = request::build(&args, &options(&args).unwrap()).unwrap();
        let mut finder = NodeFinder::new(args.node);
        finder.had_daemon = true;
        let begins = tokio::spawn(async move { finder.begin(&request).await });
        sleep(LOOK_AGAIN * 6).await;
        let (_node, _asked) = tests::start(&folder);
        let doing = begins.await.unwrap();
        assert!(matches!(doing, Ok(Doing::Daemon(_))), "{doing:?}");
    }
}
