//! URLs as they may be shown.

use std::fmt;

use url::Url;

/// Shows a URL without its user info and its query: either may be a secret.
#[derive(Debug, Clone, Copy)]
pub struct Redacted<'a>(pub &'a Url);

impl fmt::Display for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(url) = self;
        write!(
            f,
            "{}://{}",
            url.scheme(),
            url.host_str().unwrap_or_default()
        )?;
        if let Some(port) = url.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(url.path())?;
        if url.query().is_some() {
            f.write_str("?…")
        } else {
            Ok(())
        }
    }
}

/// Who answers for a URL: what an error may name.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or("the source");
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_not_shown() {
        let url =
            Url::parse("https://me:pass@h.example:8443/a/b?X-Amz-Signature=s#f").expect("a URL");
        assert_eq!(Redacted(&url).to_string(), "https://h.example:8443/a/b?…");
        let plain = Url::parse("http://h/").expect("a URL");
        assert_eq!(Redacted(&plain).to_string(), "http://h/");
    }
}
