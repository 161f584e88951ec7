//! What a failed request means, in words for the user and without secrets.

use std::error::Error;
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dfnode_tracker::SourceFailure;
use reqwest::StatusCode;
use reqwest::header::{self, HeaderMap};

use crate::ambient;

/// The longest wait that a source may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(10);
/// The wait for a busy source that does not say how long.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(2);

pub(super) fn transient(what: impl Into<String>) -> SourceFailure {
    SourceFailure::Transient { what: what.into() }
}

pub(super) fn final_(what: impl Into<String>) -> SourceFailure {
    SourceFailure::Final { what: what.into() }
}

/// What a status means that brings no bytes.
pub(super) fn of_status(status: StatusCode, headers: &HeaderMap, host: &str) -> SourceFailure {
    let code = status.as_u16();
    match code {
        401 | 402 | 403 | 407 | 410 | 451 => SourceFailure::Refused { status: code },
        404 => SourceFailure::NotFound,
        429 | 503 => SourceFailure::Busy {
            status: code,
            retry_after_ms: retry_after_ms(headers),
        },
        412 => SourceFailure::Changed,
        408 | 425 | 500..=599 => transient(format!("{host} failed with status {code}")),
        _ => final_(format!(
            "{host} answered with status {code}, which gives no content"
        )),
    }
}

fn retry_after_ms(headers: &HeaderMap) -> u64 {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &header::HeaderValue| value.to_str().ok())
            .map(str::trim)
    };
    let asked = text(header::RETRY_AFTER).and_then(|after| {
        if let Ok(seconds) = after.parse() {
            return Some(Duration::from_secs(seconds));
        }
        // Against the source's own clock, so that ours may be wrong.
        let date = text(header::DATE).and_then(|date| httpdate::parse_http_date(date).ok());
        let now =
            date.unwrap_or_else(|| UNIX_EPOCH + Duration::from_millis(ambient::unix_millis()));
        let until: SystemTime = httpdate::parse_http_date(after).ok()?;
        Some(until.duration_since(now).unwrap_or_default())
    });
    let wait = asked.unwrap_or(DEFAULT_RETRY_AFTER).min(MAX_RETRY_AFTER);
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

/// What an error of the HTTP client means.
pub(super) fn of_error(error: reqwest::Error, host: &str) -> SourceFailure {
    // The URL may hold secrets.
    let error = error.without_url();
    if let Some(tls) = find::<rustls::Error>(&error) {
        return of_tls_error(tls, host);
    }
    let cause = root_cause(&error);
    if error.is_connect() && error.is_timeout() {
        return transient(format!("{host} does not answer (no connection in time)"));
    }
    if error.is_connect() {
        return transient(format!("cannot connect to {host}: {cause}"));
    }
    if error.is_builder() {
        return final_(format!("the request to {host} cannot be made: {cause}"));
    }
    transient(format!("the connection to {host} broke: {cause}"))
}

fn of_tls_error(error: &rustls::Error, host: &str) -> SourceFailure {
    if matches!(error, rustls::Error::InvalidCertificate(_)) {
        return final_(format!(
            "the certificate of {host} is not trusted ({error}); if you trust who issued it, name its \
             certificate with --cacert FILE"
        ));
    }
    final_(format!("no secure connection to {host}: {error}"))
}

/// Looks for a kind of error behind `error`, also within I/O errors, which hide theirs.
fn find<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut current = Some(error);
    while let Some(error) = current {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        current = inner(error);
    }
    None
}

fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut current = error;
    while let Some(deeper) = inner(current) {
        current = deeper;
    }
    current.to_string()
}

fn inner<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error
        .downcast_ref::<io::Error>()
        .and_then(io::Error::get_ref)
    {
        Some(hidden) => Some(hidden),
        None => error.source(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(header::HeaderName, &str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| (name.clone(), value.parse().expect("valid")))
            .collect()
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_bounded() {
        assert_eq!(retry_after_ms(&HeaderMap::new()), 2_000);
        assert_eq!(
            retry_after_ms(&headers(&[(header::RETRY_AFTER, "7")])),
            7_000
        );
        assert_eq!(
            retry_after_ms(&headers(&[(header::RETRY_AFTER, "999999")])),
            600_000
        );
        assert_eq!(
            retry_after_ms(&headers(&[(header::RETRY_AFTER, "soon")])),
            2_000
        );
        let dated = headers(&[
            (header::DATE, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (header::RETRY_AFTER, "Sun, 06 Nov 1994 08:50:00 GMT"),
        ]);
        assert_eq!(retry_after_ms(&dated), 23_000);
    }
}
