//! A few bytes from the middle of a resource.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use dfnode_tracker::SourceFailure;
use reqwest::StatusCode;
use tokio::time::timeout;

use super::SourceRequest;
use super::client::Clients;
use super::failure::{final_, of_error, of_status, transient};
use super::head::ContentRange;
use super::headers::{is_credentialed, of_caller};
use super::patience::Patience;
use super::read::range_header;
use super::send::{Answered, Outgoing, send};

/// What is skipped of an answer that has more than was asked for.
const MAX_SKIPPED_BYTES: u64 = 1024 * 1024;

/// Reads exactly `range` of what `request` gives.
pub(super) async fn run(
    clients: &Clients,
    patience: Patience,
    request: &SourceRequest,
    range: Range<u64>,
) -> Result<Bytes, SourceFailure> {
    let client = clients.get(request.cacert.as_deref())?;
    let headers = of_caller(&request.headers)?;
    let outgoing = Outgoing {
        client: &client,
        patience,
        url: &request.url,
        headers: &headers,
        credentialed: is_credentialed(&request.url, &request.headers),
    };
    let Answered { mut response, host } = send(&outgoing, &range_header(&range)).await?;
    let span = ContentRange::of(response.headers()).and_then(|content| content.span);
    let skip = match (response.status(), span) {
        (StatusCode::PARTIAL_CONTENT, Some((first, _))) if first == range.start => 0,
        (StatusCode::OK, _) if range.start <= MAX_SKIPPED_BYTES => range.start,
        (StatusCode::OK | StatusCode::PARTIAL_CONTENT, _) => {
            return Err(final_(format!("{host} does not send parts")));
        }
        (status, _) => return Err(of_status(status, response.headers(), &host)),
    };
    let whole = usize::try_from(skip + range.end - range.start).unwrap_or(usize::MAX);
    let mut bytes = BytesMut::new();
    while bytes.len() < whole {
        let chunk = timeout(patience.silence, response.chunk())
            .await
            .map_err(|_| transient(format!("{host} sends nothing")))?
            .map_err(|error| of_error(error, &host))?;
        let Some(chunk) = chunk else {
            return Err(transient(format!("{host} ended early")));
        };
        bytes.extend_from_slice(&chunk[..chunk.len().min(whole - bytes.len())]);
    }
    Ok(bytes
        .freeze()
        .slice(usize::try_from(skip).unwrap_or(usize::MAX)..))
}
