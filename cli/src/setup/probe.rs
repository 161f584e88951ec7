//! Whether a proxy answers, before an engine is made to depend on it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::anyhow;

use crate::exit::{Exit, Failure};

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// The longest answer that is looked at.
const MAX_ANSWER_BYTES: u64 = 4096;

/// Asks the proxy for something that it does not have: only dfnode says so in this way.
pub(super) fn check(proxy: SocketAddr) -> Result<(), Failure> {
    let answer = ask(proxy).map_err(|error| {
        let what = format!("nothing answers on {proxy} ({error}); start `dfnode run` first");
        Failure::new(Exit::Other, anyhow!(what))
    })?;
    if answer.starts_with("HTTP/1.1 404 dfnode:") {
        return Ok(());
    }
    let what = format!("what answers on {proxy} is not dfnode's proxy");
    Err(Failure::new(Exit::Other, anyhow!(what)))
}

fn ask(proxy: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&proxy, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /self-test HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
