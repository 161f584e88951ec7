//! Proving to each other that both hold the cluster's key, before anything else is said.
//!
//! The dialler opens the first two-way stream and proves itself first:
//!
//! ```text
//! dialler  → version 1 ‖ start 8 ‖ proof under its current key 32 ‖ proof under its previous key 32 (or zeros)
//! acceptor → version 1 ‖ start 8 ‖ proof under the key that matched 32
//! ```
//!
//! A proof is keyed BLAKE3 of: the TLS session's exporter ‖ role ‖ start ‖ prover ‖ verifier. It is worth
//! nothing in any other session, so it can be neither replayed nor relayed, and the key never travels. `start`
//! is drawn at each start of a node and tells a restarted peer from one that dials twice.

use std::time::Duration;

use dfnode_gossip::PeerId;
use quinn::{Connection, ConnectionError, RecvStream, SendStream};

use super::close::Close;
use super::tls;
use crate::cluster_key::ClusterKeys;

/// How long both sides together may take, from the handshake's end.
pub(crate) const ADMISSION_TIMEOUT: Duration = Duration::from_secs(3);

const VERSION: u8 = 1;
const PROOF_CONTEXT: &str = "dfnode 1 admission";
const EXPORTER_LABEL: &[u8] = b"EXPORTER-dfnode-admission-1";
pub(super) const HELLO_BYTES: usize = 1 + 8 + 32 + 32;
pub(super) const ANSWER_BYTES: usize = 1 + 8 + 32;

/// A number drawn at each start of a node.
pub(crate) type StartId = [u8; 8];

/// A connection whose other end holds the cluster's key. There is no other way to get one.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) connection: Connection,
    pub(crate) peer: PeerId,
    pub(crate) peer_start: StartId,
    /// The stream of the proofs goes on as the control stream.
    pub(crate) send: SendStream,
    pub(crate) recv: RecvStream,
}

/// Why a connection was not admitted. It is closed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum AdmissionError {
    #[error("the peer holds another cluster key")]
    WrongClusterKey,
    #[error("the peer's bytes are no admission")]
    Malformed,
    #[error("the peer did not answer in time")]
    TimedOut,
    #[error("the connection ended: {0}")]
    Ended(ConnectionError),
}

impl AdmissionError {
    fn close(&self) -> Close {
        match self {
            Self::WrongClusterKey => Close::WrongClusterKey,
            Self::Malformed => Close::Violation,
            Self::TimedOut | Self::Ended(_) => Close::NotAdmitted,
        }
    }
}

/// Who proves to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Dialler = 1,
    Acceptor = 2,
}

/// What one side brings to the table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Me<'a> {
    pub(crate) peer: PeerId,
    pub(crate) start: StartId,
    pub(crate) keys: &'a ClusterKeys,
}

/// Proves this node to whom it dialled, and has the other prove itself.
pub(crate) async fn dial(
    me: Me<'_>,
    connection: Connection,
    peer: PeerId,
) -> Result<Admitted, AdmissionError> {
    let exchange = async {
        let session = exporter(&connection)?;
        let (mut send, mut recv) = connection.open_bi().await.map_err(AdmissionError::Ended)?;
        prefer_control(&send);
        let hello = hello(me, &session, peer);
        write(&connection, &mut send, &hello).await?;
        let answer: [u8; ANSWER_BYTES] = read(&connection, &mut recv).await?;
        let peer_start = check_answer(me, &session, peer, &answer)?;
        Ok((peer_start, send, recv))
    };
    finish(connection.clone(), peer, exchange).await
}

/// Has a dialler prove itself, and proves this node to it.
pub(crate) async fn accept(
    me: Me<'_>,
    connection: Connection,
    peer: PeerId,
) -> Result<Admitted, AdmissionError> {
    let exchange = async {
        let session = exporter(&connection)?;
        let (mut send, mut recv) = connection
            .accept_bi()
            .await
            .map_err(AdmissionError::Ended)?;
        prefer_control(&send);
        let hello: [u8; HELLO_BYTES] = read(&connection, &mut recv).await?;
        let (peer_start, answer) = check_hello(me, &session, peer, &hello)?;
        write(&connection, &mut send, &answer).await?;
        Ok((peer_start, send, recv))
    };
    finish(connection.clone(), peer, exchange).await
}

async fn finish(
    connection: Connection,
    peer: PeerId,
    exchange: impl Future<Output = Result<(StartId, SendStream, RecvStream), AdmissionError>>,
) -> Result<Admitted, AdmissionError> {
    let outcome = tokio::time::timeout(ADMISSION_TIMEOUT, exchange)
        .await
        .unwrap_or(Err(AdmissionError::TimedOut));
    match outcome {
        Ok((peer_start, send, recv)) => Ok(Admitted {
            connection,
            peer,
            peer_start,
            send,
            recv,
        }),
        Err(error) => {
            error.close().close(&connection);
            Err(error)
        }
    }
}

/// The control stream goes before every block.
fn prefer_control(send: &SendStream) {
    // Fails only for a stream that is closed, which the next write tells as well.
    let _ = send.set_priority(super::CONTROL_PRIORITY);
}

fn exporter(connection: &Connection) -> Result<[u8; 32], AdmissionError> {
    let mut session = [0; 32];
    connection
        .export_keying_material(&mut session, EXPORTER_LABEL, b"")
        .map_err(|_| AdmissionError::Malformed)?;
    Ok(session)
}

async fn write(
    connection: &Connection,
    send: &mut SendStream,
    bytes: &[u8],
) -> Result<(), AdmissionError> {
    send.write_all(bytes).await.map_err(|_| ended(connection))
}

async fn read<const N: usize>(
    connection: &Connection,
    recv: &mut RecvStream,
) -> Result<[u8; N], AdmissionError> {
    let mut bytes = [0; N];
    recv.read_exact(&mut bytes)
        .await
        .map_err(|_| ended(connection))?;
    Ok(bytes)
}

/// The stream broke: by the connection's end, or because the peer misuses it.
fn ended(connection: &Connection) -> AdmissionError {
    connection
        .close_reason()
        .map_or(AdmissionError::Malformed, |reason| {
            match Close::of(&reason) {
                Some(Close::WrongClusterKey) => AdmissionError::WrongClusterKey,
                Some(_) | None => AdmissionError::Ended(reason),
            }
        })
}

pub(super) fn hello(me: Me<'_>, session: &[u8; 32], peer: PeerId) -> [u8; HELLO_BYTES] {
    let mut bytes = [0; HELLO_BYTES];
    bytes[0] = VERSION;
    bytes[1..9].copy_from_slice(&me.start);
    for (field, key) in bytes[9..].chunks_exact_mut(32).zip(proof_keys(me.keys)) {
        let proof = proof(&key, session, Role::Dialler, me.start, me.peer, peer);
        field.copy_from_slice(proof.as_bytes());
    }
    bytes
}

pub(super) fn check_hello(
    me: Me<'_>,
    session: &[u8; 32],
    peer: PeerId,
    hello: &[u8; HELLO_BYTES],
) -> Result<(StartId, [u8; ANSWER_BYTES]), AdmissionError> {
    let (start, proofs) = split(hello)?;
    let matched = proof_keys(me.keys).find(|key| {
        let expected = proof(key, session, Role::Dialler, start, peer, me.peer);
        proofs.chunks_exact(32).any(|offered| expected == *offered)
    });
    let key = matched.ok_or(AdmissionError::WrongClusterKey)?;
    let mine = proof(&key, session, Role::Acceptor, me.start, me.peer, peer);
    let mut answer = [0; ANSWER_BYTES];
    answer[0] = VERSION;
    answer[1..9].copy_from_slice(&me.start);
    answer[9..].copy_from_slice(mine.as_bytes());
    Ok((start, answer))
}

pub(super) fn check_answer(
    me: Me<'_>,
    session: &[u8; 32],
    peer: PeerId,
    answer: &[u8; ANSWER_BYTES],
) -> Result<StartId, AdmissionError> {
    let (start, offered) = split(answer)?;
    proof_keys(me.keys)
        .any(|key| proof(&key, session, Role::Acceptor, start, peer, me.peer) == *offered)
        .then_some(start)
        .ok_or(AdmissionError::WrongClusterKey)
}

fn split(bytes: &[u8]) -> Result<(StartId, &[u8]), AdmissionError> {
    let ([VERSION, start @ ..], proofs) = bytes
        .split_first_chunk::<9>()
        .ok_or(AdmissionError::Malformed)?
    else {
        return Err(AdmissionError::Malformed);
    };
    Ok((*start, proofs))
}

fn proof_keys(keys: &ClusterKeys) -> impl Iterator<Item = [u8; 32]> {
    keys.accepted().map(|token| token.derive(PROOF_CONTEXT))
}

/// Comparing two [`blake3::Hash`] takes the same time wherever they differ.
fn proof(
    key: &[u8; 32],
    session: &[u8; 32],
    role: Role,
    start: StartId,
    prover: PeerId,
    verifier: PeerId,
) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(session);
    hasher.update(&[role as u8]);
    hasher.update(&start);
    hasher.update(prover.as_bytes());
    hasher.update(verifier.as_bytes());
    hasher.finalize()
}

/// The peer at the other end of a finished handshake.
pub(crate) fn peer_at(connection: &Connection) -> Result<PeerId, AdmissionError> {
    tls::peer_at(connection).ok_or_else(|| {
        Close::Violation.close(connection);
        AdmissionError::Malformed
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_key::Token;

    const SESSION: [u8; 32] = [5; 32];

    fn token(byte: u8) -> Token {
        format!("dfnode-cluster-key-1:{}", hex::encode([byte; 32]))
            .parse()
            .unwrap()
    }

    fn side(name: u8, keys: &ClusterKeys) -> Me<'_> {
        Me {
            peer: PeerId::from_bytes([name; 32]),
            start: [name; 8],
            keys,
        }
    }

    fn admits(dialler: &ClusterKeys, acceptor: &ClusterKeys) -> bool {
        let (alice, bob) = (side(1, dialler), side(2, acceptor));
        let hello = hello(alice, &SESSION, bob.peer);
        let Ok((start, answer)) = check_hello(bob, &SESSION, alice.peer, &hello) else {
            return false;
        };
        assert_eq!(start, alice.start);
        check_answer(alice, &SESSION, bob.peer, &answer).unwrap() == bob.start
    }

    #[test]
    fn only_a_common_key_admits() {
        let old = ClusterKeys::new(token(1));
        let new = ClusterKeys::new(token(2));
        let both = ClusterKeys::new(token(2)).with_previous(token(1));
        let both_ways = |a, b| admits(a, b) && admits(b, a);
        assert!(both_ways(&old, &old));
        assert!(both_ways(&old, &both));
        assert!(both_ways(&new, &both));
        assert!(both_ways(&ClusterKeys::open(), &ClusterKeys::open()));
        for (one, other) in [(&old, &new), (&old, &ClusterKeys::open())] {
            assert!(!admits(one, other));
            assert!(!admits(other, one));
        }
    }

    #[test]
    fn a_proof_is_worth_nothing_elsewhere() {
        let keys = ClusterKeys::new(token(1));
        let (alice, bob, eve) = (side(1, &keys), side(2, &keys), side(3, &keys));
        let hello = hello(alice, &SESSION, bob.peer);
        assert!(check_hello(bob, &[6; 32], alice.peer, &hello).is_err());
        assert!(check_hello(bob, &SESSION, eve.peer, &hello).is_err());
        assert!(check_hello(eve, &SESSION, alice.peer, &hello).is_err());
        let mut reflected = [0; ANSWER_BYTES];
        reflected.copy_from_slice(&hello[..ANSWER_BYTES]);
        assert!(check_answer(alice, &SESSION, alice.peer, &reflected).is_err());
    }

    #[test]
    fn an_altered_or_foreign_hello_is_refused() {
        let keys = ClusterKeys::new(token(1));
        let (alice, bob) = (side(1, &keys), side(2, &keys));
        let hello = hello(alice, &SESSION, bob.peer);
        for bit in 0..(ANSWER_BYTES * 8) {
            let mut altered = hello;
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(check_hello(bob, &SESSION, alice.peer, &altered).is_err());
        }
        assert!(check_hello(bob, &SESSION, alice.peer, &[0; HELLO_BYTES]).is_err());
    }

    #[test]
    fn the_layout_is_as_documented() {
        let keys = ClusterKeys::new(token(1));
        let (alice, bob) = (side(1, &keys), side(2, &keys));
        let hello = hello(alice, &SESSION, bob.peer);
        let (_, answer) = check_hello(bob, &SESSION, alice.peer, &hello).unwrap();
        assert_eq!(
            hex::encode(hello),
            format!(
                "01{}2707ee18b899d198175c1bf84e75ffb1c14aa7c79e36fb656516b65f0c061873{}",
                "01".repeat(8),
                "00".repeat(32)
            )
        );
        assert_eq!(
            hex::encode(answer),
            "010202020202020202d49ace1618faa6ca41f13e1aade19e8cd52e28e4d62062fba1e8fca5c9bd7c65"
        );
    }
}
