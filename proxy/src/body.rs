//! Bodies of requests and answers, whoever they come from.

use std::error::Error;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;

/// What may go wrong while a body is sent.
pub(crate) type BodyError = Box<dyn Error + Send + Sync>;

/// Any body.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// No bytes.
pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// These bytes.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// What comes from the other side, as it comes.
pub(crate) fn incoming(body: Incoming) -> Body {
    body.map_err(Into::into).boxed_unsync()
}
