//! Reads against a server whose every byte the test chooses.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dfnode_tracker::{Meta, SourceHead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::ambient::Clock;
use crate::limits::ByteRate;

/// What a server does when it is asked.
#[derive(Clone)]
enum Step {
    Send(Vec<u8>),
    Wait(Duration),
    Close,
}

struct Server {
    addr: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// Answers each request by what `answer` makes of its head, in lower case.
    async fn start(answer: impl Fn(&str) -> Vec<Step> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&asked), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&seen), Arc::clone(&answer)));
            }
        });
        Self { addr, asked }
    }

    fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.addr).parse().unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    seen: Arc<Mutex<Vec<String>>>,
    answer: Arc<impl Fn(&str) -> Vec<Step> + Send + Sync + 'static>,
) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Ok(byte) = stream.read_u8().await else {
                return;
            };
            head.push(byte);
        }
        let head = String::from_utf8(head).unwrap();
        seen.lock().unwrap().push(head.clone());
        for step in answer(&head.to_ascii_lowercase()) {
            match step {
                Step::Send(bytes) => {
                    if stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                Step::Wait(time) => tokio::time::sleep(time).await,
                Step::Close => return,
            }
        }
    }
}

fn head(status: u16, headers: &[&str]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status} Whatever\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

fn answer(status: u16, headers: &[&str], body: &[u8]) -> Vec<Step> {
    let length = format!("Content-Length: {}", body.len());
    let headers: Vec<&str> = headers.iter().copied().chain([length.as_str()]).collect();
    let mut bytes = head(status, &headers);
    bytes.extend_from_slice(body);
    vec![Step::Send(bytes)]
}

fn status(code: u16, headers: &[&str]) -> Vec<Step> {
    answer(code, headers, b"sorry")
}

/// Answers as a good server of `content` does.
fn good(request: &str, content: &[u8], etag: &str) -> Vec<Step> {
    let value = |name: &str| {
        let line = request
            .lines()
            .find(|line| line.starts_with(&format!("{name}: ")));
        line.map(|line| line[name.len() + 2..].to_owned())
    };
    let etag_header = format!("ETag: {etag}");
    if value("if-match").is_some_and(|wanted| wanted != etag) {
        return answer(412, &[&etag_header], b"");
    }
    if value("if-none-match").is_some_and(|known| known == etag) {
        return vec![Step::Send(head(304, &[&etag_header]))];
    }
    let Some(range) = value("range") else {
        return answer(200, &[&etag_header], content);
    };
    let (first, last) = range
        .strip_prefix("bytes=")
        .unwrap()
        .split_once('-')
        .unwrap();
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    if first >= content.len() {
        return answer(
            416,
            &[
                &etag_header,
                &format!("Content-Range: bytes */{}", content.len()),
            ],
            b"",
        );
    }
    let last = last.min(content.len() - 1);
    let range = format!("Content-Range: bytes {first}-{last}/{}", content.len());
    answer(206, &[&etag_header, &range], &content[first..=last])
}

/// Everything that a read handed over.
#[derive(Debug, Default)]
struct Outcome {
    head: Option<HeadAt>,
    bytes: Vec<u8>,
    unchanged: bool,
    end: Option<Result<u64, SourceFailure>>,
}

impl Outcome {
    fn failure(&self) -> &SourceFailure {
        self.end
            .as_ref()
            .expect("an end")
            .as_ref()
            .expect_err("a failure")
    }

    fn says(&self) -> String {
        self.failure().to_string()
    }

    fn head(&self) -> &SourceHead {
        &self.head.as_ref().expect("a head").head
    }
}

fn source() -> Source {
    let patience = Patience {
        connect: Duration::from_secs(2),
        answer: Duration::from_millis(400),
        silence: Duration::from_millis(300),
        window: Duration::from_millis(600),
        floor_bytes_per_sec: 64_000,
    };
    Source::new(SourceConfig {
        patience,
        ..SourceConfig::default()
    })
    .unwrap()
}

fn request(url: Url, extent: Extent) -> SourceRequest {
    SourceRequest {
        url,
        headers: Vec::new(),
        extent,
        cacert: None,
        limits: Vec::new(),
    }
}

async fn collect(mut read: SourceRead) -> Outcome {
    let mut outcome = Outcome::default();
    while let Some(event) = read.next().await {
        assert!(outcome.end.is_none(), "nothing follows the end");
        match event {
            SourceEvent::Head(head) => outcome.head = Some(head),
            SourceEvent::Bytes(bytes) => outcome.bytes.extend_from_slice(&bytes),
            SourceEvent::Unchanged => outcome.unchanged = true,
            SourceEvent::End(end) => outcome.end = Some(end),
        }
    }
    outcome
}

async fn probe(url: Url) -> Outcome {
    collect(source().read(request(url, Extent::Probe))).await
}

fn content(length: usize) -> Vec<u8> {
    (0..length)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect()
}

fn meta(length: u64, etag: &str, ranges: bool) -> Meta {
    let validators = dfnode_tracker::Validators {
        etag: Some(etag.to_owned()),
        last_modified: None,
    };
    let head = SourceHead {
        length: Some(length),
        validators,
        ranges,
        digest: None,
        public: true,
    };
    Meta::of(&head, [0; 32]).unwrap()
}

#[tokio::test]
async fn the_first_get_is_the_probe_and_brings_the_first_piece() {
    let body = content(5 << 20);
    let copy = body.clone();
    let server = Server::start(move |request| good(request, &copy, "\"v1\"")).await;
    let outcome = probe(server.url("/big")).await;
    assert_eq!(outcome.end, Some(Ok(4 << 20)));
    assert_eq!(outcome.bytes, body[..4 << 20]);
    let head = outcome.head();
    assert_eq!(
        (head.length, head.ranges, head.public),
        (Some(5 << 20), true, true)
    );
    assert_eq!(head.validators.etag.as_deref(), Some("\"v1\""));
    let [asked] = server.asked().try_into().expect("one request");
    assert!(
        asked.starts_with("GET /big ") && asked.contains("accept-encoding: identity\r\n"),
        "{asked}"
    );
}

#[tokio::test]
async fn a_small_file_costs_one_request() {
    let server = Server::start(|request| good(request, b"hello", "\"v1\"")).await;
    let outcome = probe(server.url("/")).await;
    assert_eq!(
        (outcome.end.clone(), outcome.bytes.as_slice()),
        (Some(Ok(5)), &b"hello"[..])
    );
    assert_eq!(outcome.head().length, Some(5));
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test]
async fn a_source_without_ranges_streams_the_whole() {
    let body = content(5 << 20);
    let copy = body.clone();
    let server = Server::start(move |_| answer(200, &["ETag: \"a\""], &copy)).await;
    let outcome = probe(server.url("/")).await;
    assert_eq!(outcome.end, Some(Ok(5 << 20)));
    assert_eq!(outcome.bytes, body);
    assert_eq!(
        (outcome.head().length, outcome.head().ranges),
        (Some(5 << 20), false)
    );
}

#[tokio::test]
async fn a_body_without_a_length_ends_where_it_ends() {
    let server = Server::start(|_| {
        let chunks = b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n".to_vec();
        vec![
            Step::Send(head(200, &["Transfer-Encoding: chunked"])),
            Step::Send(chunks),
        ]
    })
    .await;
    let outcome = probe(server.url("/")).await;
    assert_eq!(
        (outcome.end.clone(), outcome.bytes.as_slice()),
        (Some(Ok(5)), &b"abcde"[..])
    );
    assert_eq!(outcome.head().length, None);
}

#[tokio::test]
async fn an_empty_file_is_empty_in_either_form() {
    let ranged = Server::start(|request| good(request, b"", "\"e\"")).await;
    let plain = Server::start(|_| answer(200, &[], b"")).await;
    for server in [ranged, plain] {
        let outcome = probe(server.url("/")).await;
        assert_eq!(
            (outcome.end.clone(), outcome.head().length),
            (Some(Ok(0)), Some(0))
        );
        assert_eq!(server.asked().len(), 1);
    }
}

#[tokio::test]
async fn a_part_of_unknown_total_is_asked_for_again_as_a_whole() {
    let server = Server::start(|request| match request.contains("range:") {
        true => answer(206, &["Content-Range: bytes 0-3/*"], b"abcd"),
        false => answer(200, &[], b"abcdef"),
    })
    .await;
    let outcome = probe(server.url("/")).await;
    assert_eq!(
        (outcome.end.clone(), outcome.bytes.as_slice()),
        (Some(Ok(6)), &b"abcdef"[..])
    );
}

#[tokio::test]
async fn a_run_of_blocks_is_read_exactly_and_only_of_its_version() {
    let body = content(1 << 20);
    let copy = body.clone();
    let server = Server::start(move |request| good(request, &copy, "\"v1\"")).await;
    let blocks = |etag: &str| Extent::Blocks {
        meta: meta(1 << 20, etag, true),
        run: 3..5,
    };
    let outcome = collect(source().read(request(server.url("/"), blocks("\"v1\"")))).await;
    assert_eq!(outcome.end, Some(Ok(2 * 65_536)));
    assert_eq!(outcome.head.as_ref().unwrap().offset, 3 * 65_536);
    assert_eq!(outcome.bytes, body[3 * 65_536..5 * 65_536]);
    assert!(
        server.asked()[0].contains("range: bytes=196608-327679\r\n"),
        "{}",
        server.asked()[0]
    );
    let changed = collect(source().read(request(server.url("/"), blocks("\"v0\"")))).await;
    assert_eq!(changed.failure(), &SourceFailure::Changed);
    assert!(changed.bytes.is_empty());
}

#[tokio::test]
async fn a_source_that_ignores_conditions_is_caught_by_what_it_says() {
    let other_tag = |_: &str| {
        answer(
            206,
            &["ETag: \"v2\"", "Content-Range: bytes 0-3/1048576"],
            b"abcd",
        )
    };
    let other_length = |_: &str| {
        answer(
            206,
            &["ETag: \"v1\"", "Content-Range: bytes 0-3/99"],
            b"abcd",
        )
    };
    let gone = |_: &str| answer(416, &["Content-Range: bytes */2"], b"");
    let answers: [fn(&str) -> Vec<Step>; 3] = [other_tag, other_length, gone];
    for reply in answers {
        let server = Server::start(reply).await;
        let extent = Extent::Blocks {
            meta: meta(1 << 20, "\"v1\"", true),
            run: 0..1,
        };
        let outcome = collect(source().read(request(server.url("/"), extent))).await;
        assert_eq!(outcome.failure(), &SourceFailure::Changed);
        assert!(outcome.head.is_none());
    }
}

#[tokio::test]
async fn a_source_without_ranges_is_skipped_through_to_the_run() {
    let body = content(1 << 20);
    for ranges in [false, true] {
        let copy = body.clone();
        let server = Server::start(move |_| answer(200, &["ETag: \"v1\""], &copy)).await;
        let extent = Extent::Blocks {
            meta: meta(1 << 20, "\"v1\"", ranges),
            run: 14..16,
        };
        let outcome = collect(source().read(request(server.url("/"), extent))).await;
        assert_eq!(outcome.end, Some(Ok(2 * 65_536)));
        assert_eq!(outcome.bytes, body[14 * 65_536..]);
        assert_eq!(server.asked()[0].contains("range:"), ranges);
    }
}

#[tokio::test]
async fn a_version_is_confirmed_without_a_body() {
    let server = Server::start(|request| good(request, &content(1 << 20), "\"v1\"")).await;
    let validate = |etag: &str| Extent::Validate {
        meta: meta(1 << 20, etag, true),
    };
    let same = collect(source().read(request(server.url("/"), validate("\"v1\"")))).await;
    assert!(same.unchanged && same.head.is_none());
    assert_eq!(same.end, Some(Ok(0)));
    let other = collect(source().read(request(server.url("/"), validate("\"v0\"")))).await;
    assert!(!other.unchanged && other.bytes.is_empty());
    assert_eq!(other.head().validators.etag.as_deref(), Some("\"v1\""));
    assert_eq!(other.failure(), &SourceFailure::Changed);
    let silent = Server::start(|_| answer(200, &[], &content(1 << 20))).await;
    let unproven = collect(source().read(request(silent.url("/"), validate("\"v1\"")))).await;
    assert_eq!(
        unproven.failure(),
        &SourceFailure::Changed,
        "it names no validator"
    );
}

#[tokio::test]
async fn each_status_means_what_the_tracker_needs_to_know() {
    let cases: [(u16, &[&str], SourceFailure); 9] = [
        (401, &[], SourceFailure::Refused { status: 401 }),
        (403, &[], SourceFailure::Refused { status: 403 }),
        (407, &[], SourceFailure::Refused { status: 407 }),
        (410, &[], SourceFailure::Refused { status: 410 }),
        (404, &[], SourceFailure::NotFound),
        (
            429,
            &["Retry-After: 3"],
            SourceFailure::Busy {
                status: 429,
                retry_after_ms: 3_000,
            },
        ),
        (
            503,
            &[],
            SourceFailure::Busy {
                status: 503,
                retry_after_ms: 2_000,
            },
        ),
        (412, &[], SourceFailure::Changed),
        (
            500,
            &[],
            SourceFailure::Transient {
                what: String::new(),
            },
        ),
    ];
    for (code, headers, expected) in cases {
        let server = Server::start(move |_| status(code, headers)).await;
        let outcome = probe(server.url("/")).await;
        match (outcome.failure(), expected) {
            (SourceFailure::Transient { what }, SourceFailure::Transient { .. }) => {
                assert!(what.contains("status 500"), "{what}");
            }
            (failure, expected) => assert_eq!(failure, &expected),
        }
    }
    let odd = Server::start(|_| status(418, &[])).await;
    assert!(matches!(
        probe(odd.url("/")).await.failure(),
        SourceFailure::Final { .. }
    ));
}

#[tokio::test]
async fn redirects_are_followed_without_taking_secrets_to_another_origin() {
    let target = Server::start(|request| good(request, b"there", "\"t\"")).await;
    let elsewhere = format!("Location: {}", target.url("/final"));
    let server = Server::start(move |request| match request.starts_with("get /start ") {
        true => status(307, &["Location: /next"]),
        false => status(302, &[&elsewhere]),
    })
    .await;
    let mut asked = request(server.url("/start"), Extent::Probe);
    asked.headers = vec![
        ("Authorization".into(), "Bearer s3cret".into()),
        ("X-Plain".into(), "yes".into()),
    ];
    let outcome = collect(source().read(asked)).await;
    assert_eq!(
        (outcome.end.clone(), outcome.bytes.as_slice()),
        (Some(Ok(5)), &b"there"[..])
    );
    assert!(!outcome.head().public, "a credential was sent on the way");
    assert!(
        server.asked().iter().all(|head| head.contains("s3cret")),
        "the same origin still sees it"
    );
    let last = &target.asked()[0];
    assert!(
        !last.contains("s3cret") && last.contains("x-plain: yes"),
        "{last}"
    );
}

#[tokio::test]
async fn redirects_in_a_circle_and_to_nowhere_are_final() {
    let circle = Server::start(|request| match request.starts_with("get /a ") {
        true => status(301, &["Location: /b"]),
        false => status(301, &["Location: /a"]),
    })
    .await;
    let outcome = probe(circle.url("/a")).await;
    assert!(matches!(outcome.failure(), SourceFailure::Final { what } if what.contains("circle")));
    let hops = Arc::new(Mutex::new(0));
    let endless = Server::start(move |_| {
        let mut hops = hops.lock().unwrap();
        *hops += 1;
        status(302, &[&format!("Location: /{hops}")])
    })
    .await;
    assert!(
        probe(endless.url("/"))
            .await
            .says()
            .contains("more than 10")
    );
    assert_eq!(endless.asked().len(), 11);
    for place in ["ftp://h/x", "http://[", "file:///etc/passwd"] {
        let server = Server::start(move |_| status(302, &[&format!("Location: {place}")])).await;
        assert!(
            matches!(
                probe(server.url("/")).await.failure(),
                SourceFailure::Final { .. }
            ),
            "{place}"
        );
    }
}

#[tokio::test]
async fn an_early_end_a_stall_and_a_trickle_are_worth_another_try() {
    let early = Server::start(|_| {
        vec![
            Step::Send(head(200, &["Content-Length: 100"])),
            Step::Send(vec![1; 40]),
            Step::Close,
        ]
    })
    .await;
    let outcome = probe(early.url("/")).await;
    assert!(
        matches!(outcome.failure(), SourceFailure::Transient { .. }),
        "{outcome:?}"
    );
    assert_eq!(outcome.bytes.len(), 40, "what came before is handed over");

    let stalled = Server::start(|_| {
        let pause = Step::Wait(Duration::from_secs(30));
        vec![
            Step::Send(head(200, &["Content-Length: 100"])),
            Step::Send(vec![1; 40]),
            pause,
        ]
    })
    .await;
    assert!(
        probe(stalled.url("/"))
            .await
            .says()
            .contains("sent nothing for 0.3 s")
    );

    let trickle = Server::start(|_| {
        let mut steps = vec![Step::Send(head(200, &["Content-Length: 1000"]))];
        steps.extend((0..100).flat_map(|_| {
            [
                Step::Send(vec![1; 10]),
                Step::Wait(Duration::from_millis(50)),
            ]
        }));
        steps
    })
    .await;
    assert!(probe(trickle.url("/")).await.says().contains("too slow"));

    let silent = Server::start(|_| vec![Step::Wait(Duration::from_secs(30))]).await;
    assert!(
        probe(silent.url("/"))
            .await
            .says()
            .contains("did not answer within 0.4 s")
    );

    let short = Server::start(|_| {
        answer(
            206,
            &["ETag: \"v1\"", "Content-Range: bytes 0-3/1048576"],
            b"abcd",
        )
    })
    .await;
    let extent = Extent::Blocks {
        meta: meta(1 << 20, "\"v1\"", true),
        run: 0..1,
    };
    let outcome = collect(source().read(request(short.url("/"), extent))).await;
    assert!(
        outcome.says().contains("ended after 4 of 65536 bytes"),
        "{}",
        outcome.says()
    );
}

#[tokio::test]
async fn nobody_there_is_told_with_the_host_and_without_the_query() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://user:pa55@{closed}/x?sig=s3cret")
        .parse()
        .unwrap();
    let says = probe(url).await.says();
    assert!(
        says.contains(&closed.to_string()) && says.contains("refused"),
        "{says}"
    );
    assert!(!says.contains("s3cret") && !says.contains("pa55"), "{says}");
}

#[tokio::test]
async fn nonsense_is_final() {
    let other_range =
        Server::start(|_| answer(206, &["Content-Range: bytes 7-9/10"], b"abc")).await;
    assert!(matches!(
        probe(other_range.url("/")).await.failure(),
        SourceFailure::Final { .. }
    ));
    let too_long = Server::start(|_| answer(206, &["Content-Range: bytes 0-1/2"], b"abc")).await;
    assert!(
        probe(too_long.url("/"))
            .await
            .says()
            .contains("more bytes than it announced")
    );
    let url = "gopher://h/".parse().unwrap();
    assert!(matches!(
        probe(url).await.failure(),
        SourceFailure::Final { .. }
    ));
}

#[tokio::test]
async fn a_slow_receiver_or_limit_is_not_held_against_the_source() {
    let server = Server::start(|request| good(request, &content(300_000), "\"v\"")).await;
    let mut asked = request(server.url("/"), Extent::Probe);
    asked.limits = vec![Limiter::new(ByteRate::per_sec(
        NonZeroU64::new(200_000).unwrap(),
    ))];
    let begun = Clock::now();
    let mut read = source().read(asked);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let mut sum = 0;
    while let Some(event) = read.next().await {
        match event {
            SourceEvent::Bytes(bytes) => sum += bytes.len(),
            SourceEvent::End(end) => assert_eq!(end, Ok(300_000)),
            SourceEvent::Head(_) | SourceEvent::Unchanged => {}
        }
    }
    assert_eq!(sum, 300_000);
    assert!(
        Clock::now() - begun >= Duration::from_millis(1_100),
        "the limit was kept"
    );
}

#[tokio::test]
async fn connections_are_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let accepted = Arc::new(Mutex::new(0));
    let count = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            *count.lock().unwrap() += 1;
            tokio::spawn(serve(
                stream,
                Arc::default(),
                Arc::new(|request: &str| good(request, b"again", "\"v\"")),
            ));
        }
    });
    let source = source();
    for _ in 0..5 {
        let url = format!("http://{addr}/").parse().unwrap();
        assert_eq!(
            collect(source.read(request(url, Extent::Probe))).await.end,
            Some(Ok(5))
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(*accepted.lock().unwrap(), 1);
}

#[tokio::test]
async fn a_certificate_must_be_trusted_and_cacert_is_how() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let pem = made.cert.pem().into_bytes();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.key_pair.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let config = Arc::new(config);
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = rustls::StreamOwned::new(connection, stream.unwrap());
            let mut request = [0; 4096];
            if tls.read(&mut request).is_ok_and(|count| count > 0) {
                tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")
                    .unwrap();
            }
        }
    });
    let url: Url = format!("https://localhost:{port}/").parse().unwrap();
    let outcome = probe(url.clone()).await;
    assert!(
        matches!(outcome.failure(), SourceFailure::Final { what } if what.contains("--cacert")),
        "{outcome:?}"
    );
    let mut asked = request(url.clone(), Extent::Probe);
    asked.cacert = Some(pem.clone());
    assert_eq!(collect(source().read(asked)).await.bytes, b"secret");
    let config = SourceConfig {
        cacert: vec![pem],
        ..SourceConfig::default()
    };
    let trusting = Source::new(config).unwrap();
    assert_eq!(
        collect(trusting.read(request(url, Extent::Probe)))
            .await
            .bytes,
        b"secret"
    );
    let nothing = SourceConfig {
        cacert: vec![b"no certificate".to_vec()],
        ..SourceConfig::default()
    };
    assert!(matches!(
        Source::new(nothing),
        Err(SourceSetupError::Certificate)
    ));
}
