//! Redirects, refusals and everything else that goes wrong.

use std::io::{Read as _, Write as _};

use super::*;

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
async fn redirects_are_followed_without_taking_headers_to_another_origin() {
    let target = Server::start(|request| good(request, b"there", "\"t\"")).await;
    let elsewhere = format!("Location: {}", target.url("/final"));
    let server = Server::start(move |request| {
        if request.starts_with("get /start ") {
            status(307, &["Location: /next"])
        } else {
            status(302, &[&elsewhere])
        }
    })
    .await;
    let mut asked = request(server.url("/start"), Extent::Probe);
    asked.headers = vec![
        ("Authorization".into(), "Bearer s3cret".into()),
        ("X-Plain".into(), "mine".into()),
        ("User-Agent".into(), "me/1".into()),
    ];
    let outcome = collect(source().read(asked)).await;
    assert_eq!(
        (outcome.end.clone(), outcome.bytes.as_slice()),
        (Some(Ok(5)), &b"there"[..])
    );
    assert!(!outcome.head().public, "a credential was sent on the way");
    assert!(
        server
            .asked()
            .iter()
            .all(|head| head.contains("s3cret") && head.contains("mine")),
        "the same origin still sees it"
    );
    let last = &target.asked()[0];
    assert!(
        !last.contains("s3cret") && !last.contains("mine") && last.contains("user-agent: me/1"),
        "{last}"
    );
}

#[tokio::test]
async fn redirects_in_a_circle_and_to_nowhere_are_final() {
    let circle = Server::start(|request| {
        let next = if request.starts_with("get /a ") {
            "/b"
        } else {
            "/a"
        };
        status(301, &[&format!("Location: {next}")])
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
        outcome.says().contains("ended after 4 of 32768 bytes"),
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
async fn a_certificate_must_be_trusted_and_cacert_is_how() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let pem = made.cert.pem().into_bytes();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.key_pair.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
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
        Err(SourceSetupError::Trust(TrustError::Certificate))
    ));
}
