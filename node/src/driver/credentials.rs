//! Which parts of a request select content, and which only prove who asks.

use std::fmt;

use dfnode_tracker::{Selector, TaskId};
use url::Url;

use crate::get::GetRequest;

/// Headers that select among representations: they are part of the task's name.
const SELECTING: &[&str] = &[
    "accept",
    "accept-language",
    "accept-charset",
    // A source may answer by where a request claims to come from.
    "referer",
    "forwarded",
    "x-forwarded-for",
];

/// Headers that neither select content nor prove anything.
const NEUTRAL: &[&str] = &[
    // The node asks for the bytes as they are, whatever its caller would take.
    "accept-encoding",
    "user-agent",
    "cache-control",
    "pragma",
    "connection",
    "date",
    "via",
    "traceparent",
    "tracestate",
    "x-request-id",
];

/// What a caller's own roots of trust are called among the selecting headers: no header can have this name.
const OWN_ROOTS: &str = ":cacert";

/// Query parameters that show a URL to be signed: whoever holds the URL holds the right to read.
const SIGNATURES: &[&str] = &[
    "x-amz-signature",
    "x-goog-signature",
    "signature",
    "q-signature",
    "sig",
];

/// A keyed hash of what a caller proves itself with; equal on all hosts that share the cluster's key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Credential([u8; 32]);

impl Credential {
    /// A caller that shows nothing.
    pub(crate) const NONE: Self = Self([0; 32]);

    /// What `request` proves its caller with.
    ///
    /// A header that is not known to be harmless counts as proof: to be wrong that way costs a question
    /// to the source, the other way it would hand out somebody's secret.
    pub(crate) fn of(request: &GetRequest, key: &[u8; 32]) -> Self {
        let mut proofs = Vec::new();
        for (name, value) in &request.headers {
            let name = name.to_ascii_lowercase();
            if !SELECTING.contains(&name.as_str()) && !NEUTRAL.contains(&name.as_str()) {
                proofs.push((name, value.clone()));
            }
        }
        if !request.url.username().is_empty() || request.url.password().is_some() {
            let password = request.url.password().unwrap_or_default();
            proofs.push((
                "userinfo".to_owned(),
                format!("{}:{password}", request.url.username()),
            ));
        }
        proofs.extend(unselecting_query(&request.url, &request.filter));
        if proofs.is_empty() {
            return Self::NONE;
        }
        proofs.sort_unstable();
        let mut hasher = blake3::Hasher::new_keyed(key);
        for (name, value) in proofs {
            for field in [name, value] {
                hasher.update(&(field.len() as u64).to_le_bytes());
                hasher.update(field.as_bytes());
            }
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// Whether the caller showed anything at all.
    pub(crate) fn is_some(self) -> bool {
        self != Self::NONE
    }

    /// The bytes, for the name of a task that only this credential may read.
    pub(crate) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_some() {
            "Credential(…)"
        } else {
            "Credential(none)"
        })
    }
}

/// The query parameters that the task's name leaves out: they may be what grants access.
fn unselecting_query(url: &Url, filter: &[String]) -> Vec<(String, String)> {
    let is_signature = |name: &str| SIGNATURES.contains(&name.to_ascii_lowercase().as_str());
    let signed = url.query_pairs().any(|(name, _)| is_signature(&name));
    url.query_pairs()
        .filter(|(name, _)| signed || filter.iter().any(|dropped| dropped == name.as_ref()))
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect()
}

/// The task that a request is part of; `owner` if the source answers each caller differently.
pub(crate) fn task_of(request: &GetRequest, owner: Option<Credential>) -> TaskId {
    if let Some(content) = &request.content {
        return TaskId::of_digest(&content.digest);
    }
    let mut headers = request.headers.clone();
    headers.retain(|(name, value)| is_selecting(name, value));
    if let Some(pem) = &request.cacert {
        // What these vouched for is for those alone who trust them too.
        headers.push((OWN_ROOTS.to_owned(), blake3::hash(pem).to_string()));
    }
    task_of_url(&request.url, &request.filter, &request.tag, &headers, owner)
}

/// Whether a header selects among representations. Many programs say by default that they take any, as who says nothing
/// does: theirs is the same file.
fn is_selecting(name: &str, value: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let takes_any = match name.as_str() {
        "accept" => "*/*",
        _ => "*",
    };
    SELECTING.contains(&name.as_str()) && value.trim() != takes_any
}

/// The task of a URL, for those who have no request; `headers` are those that select.
pub(crate) fn task_of_url(
    url: &Url,
    filter: &[String],
    tag: &str,
    headers: &[(String, String)],
    owner: Option<Credential>,
) -> TaskId {
    let headers: Vec<(&str, &str)> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let credential = owner.filter(|owner| owner.is_some());
    TaskId::of_url(&Selector {
        url,
        filter,
        tag,
        headers: &headers,
        credential: credential
            .as_ref()
            .map(|credential| credential.as_bytes().as_slice()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8; 32] = &[7; 32];

    fn request(url: &str, headers: &[(&str, &str)]) -> GetRequest {
        let mut request = GetRequest::new(url.parse().unwrap());
        request.headers = headers
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        request
    }

    #[test]
    fn only_harmless_headers_leave_a_caller_without_credential() {
        let plain = request(
            "http://h/f?a=1",
            &[("Accept", "x/y"), ("User-Agent", "curl")],
        );
        assert_eq!(Credential::of(&plain, KEY), Credential::NONE);
        for headers in [
            [("Authorization", "Bearer x")],
            [("Cookie", "a=b")],
            [("X-Secret", "1")],
        ] {
            assert!(Credential::of(&request("http://h/f", &headers), KEY).is_some());
        }
        assert!(Credential::of(&request("http://u:p@h/f", &[]), KEY).is_some());
    }

    #[test]
    fn a_signed_url_is_a_credential_and_the_same_task() {
        let one = request("http://h/f?X-Amz-Signature=a&X-Amz-Date=1", &[]);
        let two = request("http://h/f?X-Amz-Signature=b&X-Amz-Date=2", &[]);
        assert_eq!(task_of(&one, None), task_of(&two, None));
        assert!(Credential::of(&one, KEY).is_some());
        assert_ne!(Credential::of(&one, KEY), Credential::of(&two, KEY));
    }

    #[test]
    fn a_filtered_parameter_may_be_what_grants_access() {
        let mut with = request("http://h/f?token=1", &[]);
        with.filter = vec!["token".to_owned()];
        let mut without = request("http://h/f", &[]);
        without.filter.clone_from(&with.filter);
        assert_eq!(task_of(&with, None), task_of(&without, None));
        assert_ne!(Credential::of(&with, KEY), Credential::of(&without, KEY));
    }

    #[test]
    fn who_takes_anything_shares_with_who_says_nothing() {
        let plain = request("http://h/f", &[]);
        let curls = request("http://h/f", &[("Accept", "*/*")]);
        let wgets = request(
            "http://h/f",
            &[("accept", "*/*"), ("Accept-Encoding", "identity")],
        );
        let picky = request("http://h/f", &[("Accept", "text/html, */*")]);
        for any in [&curls, &wgets] {
            assert_eq!(task_of(any, None), task_of(&plain, None));
            assert_eq!(Credential::of(any, KEY), Credential::NONE);
        }
        assert_ne!(task_of(&picky, None), task_of(&plain, None));
    }

    #[test]
    fn where_a_request_claims_to_come_from_separates_tasks() {
        for name in ["Referer", "Forwarded", "X-Forwarded-For"] {
            let one = request("http://h/f", &[(name, "a")]);
            assert_eq!(Credential::of(&one, KEY), Credential::NONE, "{name}");
            for other in [
                request("http://h/f", &[(name, "b")]),
                request("http://h/f", &[]),
            ] {
                assert_ne!(task_of(&one, None), task_of(&other, None), "{name}");
            }
        }
    }

    #[test]
    fn what_a_callers_own_roots_vouch_for_is_a_task_of_its_own() {
        let plain = request("https://h/f", &[]);
        let trusting = |pem: &[u8]| {
            let mut request = plain.clone();
            request.cacert = Some(pem.to_vec());
            request
        };
        let one = task_of(&trusting(b"one"), None);
        assert_eq!(one, task_of(&trusting(b"one"), None));
        for other in [trusting(b"two"), plain.clone()] {
            assert_ne!(one, task_of(&other, None));
        }
        // No header makes a request one of theirs.
        let hash = blake3::hash(b"one").to_string();
        let forged = request("https://h/f", &[(OWN_ROOTS, &hash)]);
        assert_ne!(one, task_of(&forged, None));
    }

    #[test]
    fn a_private_task_is_named_by_its_owner_and_content_headers_separate_tasks() {
        let ours = request("http://h/f", &[("Authorization", "Bearer x")]);
        let owner = Credential::of(&ours, KEY);
        assert_ne!(task_of(&ours, Some(owner)), task_of(&ours, None));
        assert_ne!(
            task_of(&request("http://h/f", &[("accept", "a")]), None),
            task_of(&ours, None)
        );
    }
}
