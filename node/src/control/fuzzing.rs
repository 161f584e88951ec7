//! Fuzz target for the socket on the host.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::channel::{FrameError, split_frame};
use super::wire::{HEADER_BYTES, MAX_REPLY_BYTES, Reply, Request, VERSION, decode, encode};
use crate::fuzzing::input::Input;

/// The longest frame that the target believes in; small, so that the bound is met.
const MAX_BYTES: usize = 1024;

/// Frames and what they say: no byte is lost between frames, and a request or reply means the same once written again.
pub fn control(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (mut buffer, mut taken, mut came) = (Vec::new(), 0, 0);
    'stream: while !input.0.is_empty() {
        let chunk = input.chunk();
        came += chunk.len();
        buffer.extend_from_slice(chunk);
        loop {
            match split_frame(&mut buffer, MAX_BYTES) {
                Ok(Some(body)) => {
                    assert!(body.len() <= MAX_BYTES);
                    taken += HEADER_BYTES + body.len();
                    message::<Request>(&body);
                    message::<Reply>(&body);
                }
                Ok(None) => break,
                Err(FrameError::Version { theirs }) => {
                    assert_ne!(theirs, VERSION);
                    break 'stream;
                }
                Err(FrameError::TooLong(length)) => {
                    assert!(length as usize > MAX_BYTES);
                    break 'stream;
                }
                Err(FrameError::Io(error)) => unreachable!("nothing was read: {error}"),
            }
        }
        assert!(buffer.len() < HEADER_BYTES + MAX_BYTES);
    }
    assert_eq!(taken + buffer.len(), came);
    message::<Request>(bytes);
    message::<Reply>(bytes);
}

fn message<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(body: &[u8]) {
    let Ok(message) = decode::<T>(body) else {
        return;
    };
    let frame = encode(&message, MAX_REPLY_BYTES).expect("it came in less");
    let mut buffer = frame.clone();
    let again = split_frame(&mut buffer, MAX_REPLY_BYTES).expect("our own frame is one");
    let again = again.expect("it is whole");
    assert!(buffer.is_empty());
    assert_eq!(
        decode::<T>(&again).expect("our own message is one"),
        message
    );
}
