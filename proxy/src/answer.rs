//! Answers of the proxy itself.

use hyper::ext::ReasonPhrase;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};

use crate::body::{self, Body};

/// The longest reason that is given.
const MAX_REASON_BYTES: usize = 400;

/// An error, said twice: container engines show nothing but the reason phrase.
pub(crate) fn error(status: StatusCode, what: &str) -> Response<Body> {
    let mut answer = Response::new(body::full(format!("dfnode: {what}\n")));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let reason: String = format!("dfnode: {what}")
        .chars()
        .map(|letter| {
            if letter.is_ascii_graphic() {
                letter
            } else {
                ' '
            }
        })
        .take(MAX_REASON_BYTES)
        .collect();
    if let Ok(reason) = ReasonPhrase::try_from(reason.into_bytes()) {
        answer.extensions_mut().insert(reason);
    }
    answer
}

/// No upstream could be asked.
pub(crate) fn unreachable(what: &str) -> Response<Body> {
    error(StatusCode::BAD_GATEWAY, what)
}

/// One more connection is one too many.
pub(crate) fn no_room() -> Response<Body> {
    error(
        StatusCode::SERVICE_UNAVAILABLE,
        "too many connections at once",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_whatever_the_text() {
        let answer = unreachable("cannot reach h:\r\nx: ü");
        let reason = answer.extensions().get::<ReasonPhrase>().unwrap();
        assert_eq!(reason.as_bytes(), b"dfnode: cannot reach h:  x:  ");
    }
}
