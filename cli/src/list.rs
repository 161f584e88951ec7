//! What a running node shows: itself, its peers, its tasks; and how one is made to forget.

mod table;
mod view;

use anyhow::anyhow;
use dfnode_node::control::{Client, ClientError};
use dfnode_node::get::{RemoveError, RemoveRequest};
use serde_json::json;

use crate::args::{ListArgs, PlaceArgs, RmArgs};
use crate::exit::{Exit, Failure};
use crate::place::{Place, find};
use crate::say;

/// `dfnode status`.
pub(crate) async fn status(args: &ListArgs) -> Result<Exit, Failure> {
    let (place, mut client) = node(&args.place).await?;
    let status = client.status().await?;
    if args.json {
        return say::json(&view::status(&status, &place));
    }
    say::text(&view::status_text(&status, &place))
}

/// `dfnode peers`.
pub(crate) async fn peers(args: &ListArgs) -> Result<Exit, Failure> {
    let (_, mut client) = node(&args.place).await?;
    let peers = client.peers().await?;
    if args.json {
        return say::json(&peers.iter().map(view::peer).collect::<Vec<_>>());
    }
    say::text(&view::peers_text(&peers))
}

/// `dfnode tasks`.
pub(crate) async fn tasks(args: &ListArgs) -> Result<Exit, Failure> {
    let (_, mut client) = node(&args.place).await?;
    let tasks = client.tasks().await?;
    if args.json {
        return say::json(&tasks.iter().map(view::task).collect::<Vec<_>>());
    }
    say::text(&view::tasks_text(&tasks))
}

/// `dfnode rm`.
pub(crate) async fn remove(args: RmArgs) -> Result<Exit, Failure> {
    let (_, mut client) = node(&args.place).await?;
    let request = RemoveRequest {
        url: args.url,
        filter: args.filter.map(|filter| filter.0).unwrap_or_default(),
        tag: args.tag,
        cluster: args.cluster,
    };
    let outcome = client.remove(request).await?.map_err(|error| {
        let exit = if error == RemoveError::NotFound {
            Exit::NotFound
        } else {
            Exit::Other
        };
        Failure::new(exit, error)
    })?;
    if args.json {
        return say::json(&json!({
            "task": outcome.task.to_string(),
            "freed_bytes": outcome.freed_bytes,
            "announced": outcome.announced,
        }));
    }
    let announced = if outcome.announced {
        ", and the cluster was told"
    } else {
        ""
    };
    say::line(format!(
        "freed {}{announced}",
        view::size(outcome.freed_bytes)
    ))
}

/// The node to ask.
async fn node(args: &PlaceArgs) -> Result<(Place, Client), Failure> {
    let missed = match find(args.data.as_deref(), None).await {
        Ok(found) => return Ok(found),
        Err(missed) => missed,
    };
    let looked: Vec<_> = missed
        .into_iter()
        .map(|(place, error)| {
            let folder = place.folder().display();
            if matches!(error, ClientError::Absent) {
                folder.to_string()
            } else {
                format!("{folder} ({:#})", anyhow!(error))
            }
        })
        .collect();
    let what = format!(
        "no node runs here (looked in {}); start one with `dfnode run`",
        looked.join(", ")
    );
    Err(Failure::new(Exit::Other, anyhow!(what)))
}
