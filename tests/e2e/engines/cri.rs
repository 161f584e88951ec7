//! The one question of a kubelet that matters here, asked without a kubelet.
//!
//! Debian has no `crictl`, and one message each way needs no gRPC library: curl speaks HTTP/2 to the
//! socket, and these are the bytes that runtime/v1's `PullImageRequest` and `PullImageResponse` have.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Way, command, fresh_folder, run};
use crate::lab::{Finished, Host};
use crate::registries::User;

/// Asks containerd to pull `image`; says the id that it answers with.
pub(super) fn pull(
    host: &Host,
    socket: &Path,
    image: &str,
    user: Option<User>,
) -> Result<String, Box<Finished>> {
    // PullImageRequest { image: ImageSpec { image }, auth: AuthConfig { username, password } }
    let mut message = field(1, &field(1, image.as_bytes()));
    if let Some(user) = user {
        let (name, password) = (user.name.as_bytes(), user.password.as_bytes());
        message.extend(field(2, &[field(1, name), field(2, password)].concat()));
    }
    let mut asked = ask(host, socket, "ImageService/PullImage", &message)?;
    // PullImageResponse { image_ref }
    match asked.reply.as_slice() {
        [0x0a, length, id @ ..] if usize::from(*length) == id.len() => {
            Ok(String::from_utf8_lossy(id).into_owned())
        }
        _ => {
            asked.finished.stderr = asked.trailers;
            Err(Box::new(asked.finished))
        }
    }
}

/// Whether the service answers at all.
pub(super) fn is_ready(host: &Host, socket: &Path) -> bool {
    // VersionResponse { version, … } is never empty.
    ask(host, socket, "RuntimeService/Version", &[]).is_ok_and(|asked| !asked.reply.is_empty())
}

struct Answer {
    finished: Finished,
    reply: Vec<u8>,
    /// Where gRPC says how it went.
    trailers: String,
}

/// One unary call.
fn ask(host: &Host, socket: &Path, call: &str, message: &[u8]) -> Result<Answer, Box<Finished>> {
    let dir = fresh_folder(host, "cri");
    let finished = run(curl(host, socket, call, message, &dir))?;
    let reply = fs::read(dir.join("response")).unwrap_or_default();
    Ok(Answer {
        finished,
        reply: reply.get(FRAME_BYTES..).unwrap_or_default().to_vec(),
        trailers: fs::read_to_string(dir.join("trailers")).unwrap_or_default(),
    })
}

/// The call as a command, whose files are in `dir`.
fn curl(host: &Host, socket: &Path, call: &str, message: &[u8], dir: &Path) -> Command {
    fs::write(dir.join("request"), framed(message)).unwrap();
    let mut curl = command(host, Way::Native, "curl");
    curl.args(["-sS", "--http2-prior-knowledge", "--unix-socket"])
        .arg(socket);
    curl.args(["-H", "Content-Type: application/grpc", "-H", "TE: trailers"]);
    curl.arg("--data-binary")
        .arg(format!("@{}", dir.join("request").display()));
    curl.arg("-D").arg(dir.join("trailers"));
    curl.arg("-o").arg(dir.join("response"));
    curl.arg(format!("http://localhost/runtime.v1.{call}"));
    curl
}

/// Whether it is compressed (0: no), and its length.
const FRAME_BYTES: usize = 5;

/// `message` as gRPC sends it.
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0], length.to_be_bytes().as_slice(), message].concat()
}

/// A field of protobuf that holds bytes: a string or another message, shorter than 128.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap();
    assert!(length < 128, "its length would need two bytes");
    [&[number << 3 | 2, length], content].concat()
}

#[test]
fn a_message_is_framed_as_grpc_wants_it() {
    assert_eq!(
        framed(&field(1, b"ab")),
        [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']
    );
}
