//! The GET of a blob: the registry says who may have it, the node has it.

use std::sync::Arc;

use dfnode_node::get::{ByteStream, ContentName, GetError, GetRequest};
use dfnode_tracker::Digest;
use hyper::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName,
    HeaderValue,
};
use hyper::{Request, Response, StatusCode};
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
    let opened = open(shared, get.clone(), wanted).await;
    let (stream, length) = match opened {
        Ok(opened) => opened,
        Err(what) => {
            debug!(%digest, what, "the node does not have it; passed on");
            shared.stats.fallbacks.add(1);
            return relay::relay(shared, origin, request).await;
        }
    };
    if !shared.yeses.fits(key, length) {
        debug!(%digest, "the registry said yes to something else; passed on");
        shared.yeses.remove(key);
        shared.stats.fallbacks.add(1);
        return relay::relay(shared, origin, request).await;
    }
    shared.stats.blobs.add(1);
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
        about,
    };
    part(shared, origin, head, get, stream, wanted, whole)
}

/// Asks the node for (a part of) something; its length is known and this caller may have it.
pub(crate) async fn open(
    shared: &Shared,
    get: GetRequest,
    wanted: Wanted,
) -> Result<(ByteStream, u64), String> {
    let range = match wanted {
        Wanted::From(first, last) => Some((first, last)),
        Wanted::All | Wanted::Last(_) => None,
    };
    let stream = begin(shared, get, range).await;
    let mut stream = stream.map_err(|error| error.to_string())?;
    match stream.started().await {
        Ok(Some(length)) => Ok((stream, length)),
        Ok(None) => Err("its length is not known".to_owned()),
        Err(error) => Err(error.to_string()),
    }
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
    /// What the answer says of it, besides.
    pub(crate) about: HeaderMap,
}

/// The answer with the part that was asked for.
pub(crate) fn part(
    shared: &Arc<Shared>,
    origin: &Origin,
    request: Request<()>,
    get: GetRequest,
    stream: ByteStream,
    wanted: Wanted,
    whole: Whole,
) -> Response<Body> {
    let Whole {
        length,
        sameness,
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
        return answer;
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
        version: stream.version(),
        length,
        sameness,
    };
    let pour = Pour::new(source, stream, first..end);
    *answer.body_mut() = pour.into_body();
    answer
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}
