//! What each extent asks for and hands over.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::ambient::Clock;
use crate::limits::ByteRate;

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
async fn a_source_without_a_strong_validator_is_read_once_in_two_answers_that_overlap() {
    let body = content(5 << 20);
    for etag in ["W/\"v1\"", ""] {
        let copy = body.clone();
        let server = Server::start(move |request| good(request, &copy, etag)).await;
        let outcome = probe(server.url("/")).await;
        assert_eq!(outcome.end, Some(Ok(5 << 20)));
        assert!(outcome.bytes == body);
        assert_eq!(outcome.head().length, Some(5 << 20));
        assert!(!outcome.head().ranges, "nobody else may read parts of it");
        let [_, rest] = server.asked().try_into().expect("two requests");
        assert!(rest.contains("range: bytes=4128768-5242879\r\n"), "{rest}");
    }
}

#[tokio::test]
async fn two_answers_that_say_different_things_are_not_put_together() {
    let (body, turn) = (content(5 << 20), AtomicU32::new(0));
    let copy = body.clone();
    let server = Server::start(move |request| {
        let turn = turn.fetch_add(1, Ordering::Relaxed);
        good(request, &copy, &format!("W/\"v{turn}\""))
    })
    .await;
    let outcome = probe(server.url("/")).await;
    assert_eq!(outcome.end, Some(Ok(5 << 20)));
    assert!(outcome.bytes == body);
    let [_, _, whole] = server.asked().try_into().expect("three requests");
    assert!(!whole.contains("range:"), "{whole}");
}

#[tokio::test]
async fn two_answers_that_do_not_overlap_are_void_and_next_time_one_brings_all() {
    let (old, turn) = (content(5 << 20), AtomicU32::new(0));
    let mut new = old.clone();
    new[4_128_800] ^= 1;
    let copy = new.clone();
    let server = Server::start(move |request| {
        let is_first = turn.fetch_add(1, Ordering::Relaxed) == 0;
        good(request, if is_first { &old } else { &copy }, "W/\"v\"")
    })
    .await;
    let source = source();
    let read = || collect(source.read(request(server.url("/"), Extent::Probe)));
    assert_eq!(read().await.failure(), &SourceFailure::Changed);
    let outcome = read().await;
    assert_eq!(outcome.end, Some(Ok(5 << 20)));
    assert!(outcome.bytes == new);
    let [_, _, whole] = server.asked().try_into().expect("three requests");
    assert!(!whole.contains("range:"), "{whole}");
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
    let server = Server::start(|request| {
        if request.contains("range:") {
            answer(206, &["Content-Range: bytes 0-3/*"], b"abcd")
        } else {
            answer(200, &[], b"abcdef")
        }
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
    let body = content(1 << 19);
    let copy = body.clone();
    let server = Server::start(move |request| good(request, &copy, "\"v1\"")).await;
    let blocks = |etag: &str| Extent::Blocks {
        meta: meta(1 << 19, etag, true),
        run: 3..5,
    };
    let outcome = collect(source().read(request(server.url("/"), blocks("\"v1\"")))).await;
    assert_eq!(outcome.end, Some(Ok(2 * 32_768)));
    assert_eq!(outcome.head.as_ref().unwrap().offset, 3 * 32_768);
    assert_eq!(outcome.bytes, body[3 * 32_768..5 * 32_768]);
    assert!(
        server.asked()[0].contains("range: bytes=98304-163839\r\n"),
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
    let body = content(1 << 19);
    for ranges in [false, true] {
        let copy = body.clone();
        let server = Server::start(move |_| answer(200, &["ETag: \"v1\""], &copy)).await;
        let extent = Extent::Blocks {
            meta: meta(1 << 19, "\"v1\"", ranges),
            run: 14..16,
        };
        let outcome = collect(source().read(request(server.url("/"), extent))).await;
        assert_eq!(outcome.end, Some(Ok(2 * 32_768)));
        assert_eq!(outcome.bytes, body[14 * 32_768..]);
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
async fn a_date_alone_confirms_nothing_to_a_caller_with_credentials_without_date_and_length() {
    const DATES: [&str; 2] = [
        "Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT",
        "Date: Thu, 22 Oct 2015 07:28:00 GMT",
    ];
    let server = Server::start(|request| {
        if request.contains("if-modified-since: ") {
            return vec![Step::Send(head(304, &DATES))];
        }
        // What this caller is given is longer than what others are.
        let total = if request.contains("cookie: bob") {
            11
        } else {
            10
        };
        let range = format!("Content-Range: bytes 0-0/{total}");
        answer(206, &[DATES[0], DATES[1], &range], b"x")
    })
    .await;
    let mut dated = meta(10, "", true);
    dated.validators = dfnode_tracker::Validators {
        etag: None,
        last_modified: Some(DATES[0]["Last-Modified: ".len()..].to_owned()),
    };
    let validate = async |cookie: Option<&str>| {
        let meta = dated.clone();
        let mut asked = request(server.url("/"), Extent::Validate { meta });
        asked.headers = cookie
            .map(|cookie| ("Cookie".to_owned(), cookie.to_owned()))
            .into_iter()
            .collect();
        collect(source().read(asked)).await
    };
    assert!(validate(Some("alice")).await.unchanged);
    assert!(!validate(Some("bob")).await.unchanged);
    let has_condition = || {
        let asked = server.asked();
        asked
            .last()
            .is_some_and(|head| head.contains("if-modified-since"))
    };
    assert!(!has_condition());
    assert!(validate(None).await.unchanged && has_condition());
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
