//! What a running node shows: itself, its peers, its tasks; and how one is made to forget.

mod table;
mod view;

use anyhow::anyhow;
use dfnode_node::control::{Client, ClientError};
use dfnode_node::get::{RemoveError, RemoveRequest, TaskName, TaskView};
use dfnode_tracker::TaskId;
use serde_json::json;

use crate::args::{ListArgs, PlaceArgs, RmArgs};
use crate::exit::{Exit, Failure};
use crate::place::{Place, find};
use crate::say;
use crate::words::Removed;

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
    let what = match args.what {
        Removed::Url(url) => TaskName::Url {
            url,
            filter: args.filter.map(|filter| filter.0).unwrap_or_default(),
            tag: args.tag,
        },
        Removed::Id(id) => TaskName::Id(task_here(&ids(&client.tasks().await?), &id)?),
    };
    let cluster = args.cluster;
    let request = RemoveRequest { what, cluster };
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
            "was_here": outcome.was_here,
            "freed_bytes": outcome.freed_bytes,
            "announced": outcome.announced,
        }));
    }
    let freed = if outcome.was_here {
        format!("freed {}", view::size(outcome.freed_bytes))
    } else {
        "nothing of it was here".to_owned()
    };
    let announced = if outcome.announced {
        ", and the cluster was told"
    } else {
        ""
    };
    say::line(format!("{freed}{announced}"))
}

fn ids(tasks: &[TaskView]) -> Vec<TaskId> {
    tasks.iter().map(|view| view.task).collect()
}

/// The one of `tasks` whose id begins with `id`.
fn task_here(tasks: &[TaskId], id: &str) -> Result<TaskId, Failure> {
    let mut found = tasks
        .iter()
        .copied()
        .filter(|task| task.to_string().starts_with(id));
    match (found.next(), found.next()) {
        (Some(task), None) => Ok(task),
        (None, _) => {
            let what = format!("no task of this host has the id {id}; `dfnode tasks` shows them");
            Err(Failure::new(Exit::NotFound, anyhow!(what)))
        }
        (Some(_), Some(_)) => Err(Failure::usage(format!(
            "the ids of several tasks begin with {id}; `dfnode tasks --json` shows the whole of them"
        ))),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_found_by_the_beginning_of_its_id() {
        let task = |first: u8, last: u8| {
            let mut bytes = [7; 32];
            (bytes[0], bytes[31]) = (first, last);
            TaskId::from_bytes(bytes)
        };
        let tasks = [task(1, 1), task(2, 1), task(2, 2)];
        let found = |id: &str| task_here(&tasks, id).map_err(|failure| failure.exit);
        assert_eq!(found(&tasks[0].short()), Ok(tasks[0]));
        assert_eq!(found(&tasks[2].short()), Err(Exit::Usage));
        assert_eq!(found(&tasks[2].to_string()), Ok(tasks[2]));
        assert_eq!(found("ffffffffff"), Err(Exit::NotFound));
    }
}
