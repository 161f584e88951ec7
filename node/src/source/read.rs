//! One read: what is asked for an extent, and what the answer means for it.

use std::ops::Range;

use bytes::Bytes;
use dfnode_tracker::{Extent, Meta, SourceFailure, SourceHead, Validators};
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Response, StatusCode};
use tokio::sync::mpsc;

use super::body::{Cut, Sink, Tail, Window};
use super::client::Clients;
use super::failure::{final_, of_status, transient};
use super::fickle::Fickle;
use super::head::{ContentRange, read as read_head};
use super::headers::{is_credentialed, of_caller};
use super::patience::Patience;
use super::send::{Answered, Outgoing, drain, send};
use super::{HeadAt, SourceEvent, SourceRequest};
use crate::get::ContentName;

/// What a probe asks for: the first piece of most files, so that the first lease is of the usual size.
const PROBE_BYTES: u64 = 4 * 1024 * 1024;
/// Bytes that two answers without a strong validator have in common, to be compared.
const OVERLAP_BYTES: u64 = 64 * 1024;
/// What an answer says of the content's state besides its length, strong or not.
const WORDS: [HeaderName; 5] = [
    header::ETAG,
    header::LAST_MODIFIED,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_DISPOSITION,
];

/// Reads `request` and tells `events` about it to its end.
pub(super) async fn run(
    clients: &Clients,
    patience: Patience,
    request: SourceRequest,
    events: mpsc::Sender<SourceEvent>,
) {
    let sink = Sink {
        events,
        limits: request.limits.clone(),
        patience,
    };
    let end = match read(clients, patience, &request, &sink).await {
        Ok(bytes) => Ok(bytes),
        Err(Cut::Failed(failure)) => Err(failure),
        Err(Cut::Unwanted) => return,
    };
    // If nobody receives any more, nobody wants to know how it ended.
    let _ = sink.tell(SourceEvent::End(end)).await;
}

async fn read(
    clients: &Clients,
    patience: Patience,
    request: &SourceRequest,
    sink: &Sink,
) -> Result<u64, Cut> {
    let client = clients.get(request.cacert.as_deref())?;
    let headers = of_caller(&request.headers)?;
    let credentialed = is_credentialed(&request.url, &request.headers);
    let outgoing = Outgoing {
        client: &client,
        patience,
        url: &request.url,
        headers: &headers,
        credentialed,
    };
    let fickle = &clients.fickle;
    let read = Read {
        outgoing,
        sink,
        fickle,
        content: request.content.as_ref(),
    };
    match &request.extent {
        Extent::Probe => read.probe().await,
        Extent::Blocks { run, .. } if run.is_empty() => Ok(0),
        Extent::Blocks { meta, .. } if meta.single => read.whole(Some(meta)).await,
        Extent::Blocks { meta, run } => read.part(meta, meta.layout.range_of_run(run)).await,
        Extent::Validate { meta } => read.validate(meta).await,
    }
}

struct Read<'a> {
    outgoing: Outgoing<'a>,
    sink: &'a Sink,
    fickle: &'a Fickle,
    content: Option<&'a ContentName>,
}

impl Read<'_> {
    fn head(&self, response: &Response) -> SourceHead {
        let mut head = read_head(
            response.status(),
            response.headers(),
            self.outgoing.credentialed,
        );
        if let Some(content) = self.content {
            // Where redirects end is not always the same server, and its validators are not those of another.
            head.validators = Validators::default();
            head.digest = Some(content.digest.clone());
            head.authority = Some(content.authority.clone());
        }
        head
    }

    async fn tell_head(&self, head: SourceHead, offset: u64) -> Result<(), Cut> {
        self.sink
            .tell(SourceEvent::Head(HeadAt { head, offset }))
            .await
    }

    /// The first read of a task: nothing is known, and this same answer brings the first bytes.
    async fn probe(&self) -> Result<u64, Cut> {
        if self.fickle.contains(self.outgoing.url) {
            return self.whole(None).await;
        }
        let Answered { response, host } =
            send(&self.outgoing, &range_header(&(0..PROBE_BYTES))).await?;
        let range = ContentRange::of(response.headers());
        match (response.status(), range) {
            (
                StatusCode::PARTIAL_CONTENT,
                Some(ContentRange {
                    span: Some((0, last)),
                    total: Some(total),
                }),
            ) => {
                let head = self.head(&response);
                if last + 1 < total && !names_version(&head) {
                    return self
                        .in_two_answers(Answered { response, host }, last + 1, total)
                        .await;
                }
                self.tell_head(head, 0).await?;
                let body_bytes = Some(last + 1);
                self.sink
                    .pump(
                        response,
                        Window {
                            skip: 0,
                            take: None,
                            body_bytes,
                        },
                        &host,
                    )
                    .await
            }
            (StatusCode::RANGE_NOT_SATISFIABLE, Some(ContentRange { total: Some(0), .. })) => {
                self.tell_head(self.head(&response), 0).await?;
                drain(response).await;
                Ok(0)
            }
            (
                StatusCode::PARTIAL_CONTENT,
                Some(ContentRange {
                    span: Some((first, _)),
                    ..
                }),
            ) if first > 0 => Err(final_(format!(
                "{host} answers with another range than it was asked for"
            ))
            .into()),
            // The source cannot do ranges as we need them: a length that is not told, or none that suits it.
            (StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE, _) => {
                drain(response).await;
                self.whole(None).await
            }
            _ => self.whole_answer(Answered { response, host }, None).await,
        }
    }

    /// The whole of a resource without a strong validator, of which `first` brings `have` bytes of `total`.
    ///
    /// Nothing proves that two answers are of one state; so this is one reader's one read all the same, and all
    /// that can be done is done: the rest is asked for at once, before the first answer's body is read, it must say of
    /// itself all that the first said, and the end of the first must be its beginning, byte for byte. If not, one
    /// answer must bring all, now and next time.
    async fn in_two_answers(&self, first: Answered, have: u64, total: u64) -> Result<u64, Cut> {
        let from = have.saturating_sub(OVERLAP_BYTES);
        let rest = send(&self.outgoing, &range_header(&(from..total))).await?;
        let is_rest = rest.response.status() == StatusCode::PARTIAL_CONTENT
            && ContentRange::of(rest.response.headers())
                == Some(ContentRange {
                    span: Some((from, total - 1)),
                    total: Some(total),
                })
            && says_the_same(first.response.headers(), rest.response.headers());
        if !is_rest {
            self.fickle.insert(self.outgoing.url);
            drop((first, rest));
            return self.whole(None).await;
        }
        let head = SourceHead {
            ranges: false,
            ..self.head(&first.response)
        };
        self.tell_head(head, 0).await?;
        let mut window = Window {
            skip: 0,
            take: None,
            body_bytes: Some(have),
        };
        let mut seam = Tail::of(usize::try_from(have - from).unwrap_or(usize::MAX));
        let Answered { response, host } = first;
        let given = self
            .sink
            .pump_between(response, window, &host, None, &mut seam)
            .await?;
        window.skip = have - from;
        window.body_bytes = Some(total - from);
        let Answered { response, host } = rest;
        let more = self
            .sink
            .pump_between(response, window, &host, Some(&seam), &mut Tail::of(0))
            .await;
        if matches!(more, Err(Cut::Failed(SourceFailure::Changed))) {
            self.fickle.insert(self.outgoing.url);
        }
        Ok(given + more?)
    }

    /// The whole resource in one answer.
    async fn whole(&self, meta: Option<&Meta>) -> Result<u64, Cut> {
        let conditions =
            meta.map_or_else(HeaderMap::new, |meta| unchanged_headers(&meta.validators));
        let answered = send(&self.outgoing, &conditions).await?;
        self.whole_answer(answered, meta).await
    }

    async fn whole_answer(&self, answered: Answered, meta: Option<&Meta>) -> Result<u64, Cut> {
        let Answered { response, host } = answered;
        let status = response.status();
        if !is_content(status) {
            return Err(of_status(status, response.headers(), &host).into());
        }
        let head = self.head(&response);
        if meta.is_some_and(|meta| !meta.single && !is_same(meta, &head)) {
            return Err(SourceFailure::Changed.into());
        }
        let body_bytes = head.length;
        self.tell_head(head, 0).await?;
        self.sink
            .pump(
                response,
                Window {
                    skip: 0,
                    take: None,
                    body_bytes,
                },
                &host,
            )
            .await
    }

    /// A range of a version that is known.
    async fn part(&self, meta: &Meta, range: Range<u64>) -> Result<u64, Cut> {
        let mut asked = unchanged_headers(&meta.validators);
        if meta.ranges {
            asked.extend(range_header(&range));
        }
        let Answered { response, host } = send(&self.outgoing, &asked).await?;
        let status = response.status();
        let wanted = range.end - range.start;
        match status {
            StatusCode::PARTIAL_CONTENT => {
                let content = ContentRange::of(response.headers());
                let Some(ContentRange {
                    span: Some((first, last)),
                    total,
                }) = content
                else {
                    return Err(final_(format!("{host} sent a part and does not say which")).into());
                };
                let head = self.head(&response);
                if !is_same(meta, &head) || (total.is_some() && total != meta.layout.length()) {
                    return Err(SourceFailure::Changed.into());
                }
                if first != range.start || last >= range.end {
                    return Err(final_(format!(
                        "{host} answers with another range than it was asked for"
                    ))
                    .into());
                }
                self.tell_head(head, first).await?;
                let window = Window {
                    skip: 0,
                    take: Some(wanted),
                    body_bytes: Some(last + 1 - first),
                };
                self.sink.pump(response, window, &host).await
            }
            _ if is_content(status) => {
                let head = self.head(&response);
                if !is_same(meta, &head) {
                    return Err(SourceFailure::Changed.into());
                }
                let window = Window {
                    skip: range.start,
                    take: Some(wanted),
                    body_bytes: head.length,
                };
                self.tell_head(head, range.start).await?;
                self.sink.pump(response, window, &host).await
            }
            StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::PRECONDITION_FAILED => {
                Err(SourceFailure::Changed.into())
            }
            _ => Err(of_status(status, response.headers(), &host).into()),
        }
    }

    /// Whether a version is still current, at the price of one byte at most.
    async fn validate(&self, meta: &Meta) -> Result<u64, Cut> {
        // By a date alone, a source may call unchanged what it would not give to this caller at all.
        let known = &meta.validators;
        let is_by_date_alone =
            self.outgoing.credentialed && known.etag.is_none() && known.last_modified.is_some();
        let mut asked = if is_by_date_alone {
            HeaderMap::new()
        } else {
            changed_headers(known)
        };
        asked.extend(range_header(&(0..1)));
        let Answered { response, host } = send(&self.outgoing, &asked).await?;
        let status = response.status();
        let is_empty =
            ContentRange::of(response.headers()).is_some_and(|range| range.total == Some(0));
        let head = match status {
            StatusCode::NOT_MODIFIED => {
                self.sink.tell(SourceEvent::Unchanged).await?;
                return Ok(0);
            }
            StatusCode::PARTIAL_CONTENT => self.head(&response),
            StatusCode::RANGE_NOT_SATISFIABLE if is_empty => self.head(&response),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                return Err(
                    transient(format!("{host} does not tell whether the content changed")).into(),
                );
            }
            _ if is_content(status) => self.head(&response),
            _ => return Err(of_status(status, response.headers(), &host).into()),
        };
        // An answer with the whole body is cut off here; one byte is read so that the connection lives on.
        drain(response).await;
        let tells_enough = !is_by_date_alone || head.length.is_some();
        if tells_enough && is_proven_same(meta, &head) {
            self.sink.tell(SourceEvent::Unchanged).await?;
            return Ok(0);
        }
        self.tell_head(head, 0).await?;
        Err(SourceFailure::Changed.into())
    }
}

/// Whether a status announces the content as a whole.
const fn is_content(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203)
}

/// Whether an answer may be of the version that `meta` names.
///
/// A validator that the answer leaves out says nothing: the request named it, so the source has judged.
fn is_same(meta: &Meta, head: &SourceHead) -> bool {
    let lengths = meta
        .layout
        .length()
        .zip(head.length)
        .is_none_or(|(known, told)| known == told);
    let digests = meta
        .digest
        .as_ref()
        .zip(head.digest.as_ref())
        .is_none_or(|(known, told)| known == told);
    lengths && digests && validators_agree(meta, head).unwrap_or(true)
}

/// Whether an answer that was sent because the condition failed, or was not looked at, is of the version
/// all the same: then only what it says itself counts.
fn is_proven_same(meta: &Meta, head: &SourceHead) -> bool {
    // Of a version that nothing identifies, no two answers are known to be the same.
    !meta.single
        && is_same(meta, head)
        && validators_agree(meta, head).unwrap_or_else(|| !meta.validators.are_strong())
}

/// `None` if there is no validator that both name.
fn validators_agree(meta: &Meta, head: &SourceHead) -> Option<bool> {
    let (known, told) = (&meta.validators, &head.validators);
    let agree = |known: &Option<String>, told: &Option<String>| {
        known
            .as_ref()
            .zip(told.as_ref())
            .map(|(known, told)| known == told)
    };
    agree(&known.etag, &told.etag).or_else(|| agree(&known.last_modified, &told.last_modified))
}

/// Whether two answers say the same of the content's state.
fn says_the_same(one: &HeaderMap, two: &HeaderMap) -> bool {
    WORDS
        .iter()
        .all(|word| one.get_all(word).iter().eq(two.get_all(word).iter()))
}

/// Whether two parts with this head are known to be of one version.
fn names_version(head: &SourceHead) -> bool {
    let Validators {
        etag,
        last_modified,
    } = &head.validators;
    head.digest.is_some() || etag.is_some() || last_modified.is_some()
}

pub(super) fn range_header(range: &Range<u64>) -> HeaderMap {
    let last = range.end.saturating_sub(1);
    headers([(header::RANGE, Some(format!("bytes={}-{last}", range.start)))])
}

/// Asks for content only while it is the version.
fn unchanged_headers(validators: &Validators) -> HeaderMap {
    conditions(validators, header::IF_MATCH, header::IF_UNMODIFIED_SINCE)
}

/// Asks for content only if it is no longer the version.
fn changed_headers(validators: &Validators) -> HeaderMap {
    conditions(validators, header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE)
}

fn conditions(validators: &Validators, by_etag: HeaderName, by_date: HeaderName) -> HeaderMap {
    match &validators.etag {
        Some(etag) => headers([(by_etag, Some(etag.clone()))]),
        None => headers([(by_date, validators.last_modified.clone())]),
    }
}

/// Headers from values that are known to be fit for one; what is not is left out.
fn headers<const N: usize>(list: [(HeaderName, Option<String>); N]) -> HeaderMap {
    let value = |text: String| HeaderValue::from_maybe_shared(Bytes::from(text)).ok();
    list.into_iter()
        .filter_map(|(name, text)| Some((name, text.and_then(value)?)))
        .collect()
}
