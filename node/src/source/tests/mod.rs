//! Reads against a server whose every byte the test chooses.

mod extents;
mod failures;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dfnode_tracker::{Meta, SourceHead};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

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
        content: None,
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
        authority: None,
        public: true,
    };
    Meta::of(&head, [0; 32]).unwrap()
}
