//! The GET of a blob: the registry says who may have it, the node has it.

use std::sync::Arc;

use dfnode_node::get::{ByteStream, ContentName, GetError, GetRequest, StreamError};
use dfnode_tracker::{Digest, VersionId};
use hyper::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue,
};
use hyper::{Request, Response, StatusCode};
use thiserror::Error;
use tracing::debug;

use crate::authorise::{self, Verdict};
use crate::body::{self, Body};
use crate::credential::{Credential, for_source, is_plain};
use crate::origin::Origin;
use crate::pour::{Pour, Sameness, Source};
use crate::proxy::Shared;
use crate::range::Wanted;
use crate::relay;
use crate::upstream;

const DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Answers with a blob.
pub(crate) async fn serve(
    shared: &Arc<Shared>,
    origin: &Origin,
    request: Request<Body>,
    repository: &str,
    digest: Digest,
) -> Response<Body> {
    let headers = request.headers();
    let wanted = match Wanted::of(headers) {
        Some(wanted @ (Wanted::All | Wanted::From(..))) if is_plain(headers) => wanted,
        Some(_) | None => return relay::relay(shared, origin, request).await,
    };
    let credential = Credential::of(headers, shared.yeses.hash_key());
    let key = shared.yeses.key(credential, origin, repository, &digest);
    let head = upstream::head(&request);
    match authorise::ask(shared, origin, &head, key).await {
        Verdict::Yes => {}
        Verdict::No(answer) => return *answer,
        Verdict::Unclear => return relay::relay(shared, origin, request).await,
    }
    let Some(url) = origin.url(request.uri().path()) else {
        return relay::relay(shared, origin, request).await;
    };
    let mut get = GetRequest::new(url.clone());
    get.headers = for_source(head.headers());
    get.content = Some(ContentName::new(digest.clone(), &url));
    let begun = match open(shared, get.clone(), wanted).await {
        Ok(begun) => begun,
        Err(error) => {
            debug!(%digest, %error, "the node does not have it; passed on");
            shared.stats.fallbacks.add(1);
            return relay::relay(shared, origin, request).await;
        }
    };
    let length = match begun.length {
        Some(length) => Some(length),
        None => authorise::length(shared, origin, &head, key).await,
    };
    let Some(length) = length else {
        shared.stats.fallbacks.add(1);
        return relay::relay(shared, origin, request).await;
    };
    if !shared.yeses.fits(key, length) {
        debug!(%digest, "the registry said yes to something else; passed on");
        shared.yeses.remove(key);
        shared.stats.fallbacks.add(1);
        return relay::relay(shared, origin, request).await;
    }
    let mut about = HeaderMap::new();
    about.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/octet-stream"),
    );
    about.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    if let (Ok(name), Ok(tag)) = (
        HeaderValue::from_str(&digest.to_string()),
        HeaderValue::from_str(&format!("\"{digest}\"")),
    ) {
        about.insert(DIGEST, name);
        about.insert(ETAG, tag);
    }
    let whole = Whole {
        length,
        sameness: Sameness::Digest,
        version: begun.stream.version(),
        about,
    };
    match part(shared, origin, head, get, begun, wanted, whole).await {
        Some(answer) => answer,
        None => relay::relay(shared, origin, request).await,
    }
}

/// Asks the node for (a part of) something.
pub(crate) async fn open(
    shared: &Shared,
    get: GetRequest,
    wanted: Wanted,
) -> Result<Begun, Unopened> {
    let range = match wanted {
        Wanted::From(first, last) => Some((first, last)),
        Wanted::All | Wanted::Last(_) => None,
    };
    let mut stream = Box::new(begin(shared, get, range).await?);
    let (length, late) = match stream.started().await {
        Ok(Some(length)) => (Some(length), None),
        Ok(None) => return Err(Unopened::NoLength),
        Err(error) if may_go_on(&error) => (None, Some(error)),
        Err(error) => return Err(error.into()),
    };
    Ok(Begun {
        stream,
        length,
        late,
    })
}

/// Whether a node that has nothing yet may have something later: then the upstream need not give all of the answer. Six
/// proxies that pass on the whole of a file since its home has just died cost six copies of it.
const fn may_go_on(error: &StreamError) -> bool {
    use StreamError::{Get, Stalled};
    matches!(
        error,
        Stalled(_) | Get(GetError::SourceFailed { .. } | GetError::NoSource | GetError::NoSpace)
    )
}

/// Why the node has no part in an answer.
#[derive(Debug, Error)]
pub(crate) enum Unopened {
    #[error("its length is not known")]
    NoLength,
    #[error(transparent)]
    Refused(#[from] GetError),
    #[error(transparent)]
    Failed(#[from] StreamError),
}

/// A download that an answer is to come from. This caller may have it.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) stream: Box<ByteStream>,
    /// `None` while it is late.
    pub(crate) length: Option<u64>,
    /// Why it has nothing to begin with.
    pub(crate) late: Option<StreamError>,
}

/// Begins a download of (a part of) something.
pub(crate) async fn begin(
    shared: &Shared,
    mut get: GetRequest,
    range: Option<(u64, Option<u64>)>,
) -> Result<ByteStream, GetError> {
    // The node fetches no more than it is asked for.
    get.range = range.filter(|_| !shared.prefetch);
    let download = shared.node.get(shared.caller, get).await?;
    let mut stream = ByteStream::new(download, range, shared.patience.node);
    stream.set_lingers(shared.prefetch);
    Ok(stream)
}

/// What a part is one of.
pub(crate) struct Whole {
    pub(crate) length: u64,
    /// How its bytes are known again.
    pub(crate) sameness: Sameness,
    /// The only one that the node may go on with.
    pub(crate) version: Option<VersionId>,
    /// What the answer says of it, besides.
    pub(crate) about: HeaderMap,
}

/// The answer with the part that was asked for; `None` if the node is late and the upstream does not begin it so that the
/// node can go on.
pub(crate) async fn part(
    shared: &Arc<Shared>,
    origin: &Origin,
    request: Request<()>,
    get: GetRequest,
    begun: Begun,
    wanted: Wanted,
    whole: Whole,
) -> Option<Response<Body>> {
    let Whole {
        length,
        sameness,
        version,
        about,
    } = whole;
    let mut answer = Response::new(body::empty());
    *answer.headers_mut() = about;
    answer
        .headers_mut()
        .insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    let Some((first, end)) = wanted.within(length) else {
        *answer.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
        set(
            answer.headers_mut(),
            CONTENT_RANGE,
            format!("bytes */{length}"),
        );
        set(answer.headers_mut(), CONTENT_LENGTH, "0".to_owned());
        return Some(answer);
    };
    if wanted != Wanted::All {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {first}-{}/{length}", end.saturating_sub(1));
        set(answer.headers_mut(), CONTENT_RANGE, range);
    }
    set(
        answer.headers_mut(),
        CONTENT_LENGTH,
        (end - first).to_string(),
    );
    let source = Source {
        shared: Arc::clone(shared),
        origin: origin.clone(),
        request,
        get,
        version,
        length,
        sameness,
    };
    let pour = match begun.late {
        None => Pour::new(source, begun.stream, first..end),
        Some(error) => Pour::behind_upstream(source, begun.stream, &error, first..end).await?,
    };
    shared.stats.blobs.add(1);
    *answer.body_mut() = pour.into_body();
    Some(answer)
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}
