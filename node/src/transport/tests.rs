//! Two or more transports in one process, over loopback.

#![expect(
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    clippy::similar_names,
    reason = "test code"
)]

mod blocks;
mod links;
mod packets;
mod strangers;
mod syncs;

use std::time::Duration;

use super::*;
use crate::cluster_key::Token;

const PATIENCE: Duration = Duration::from_secs(10);

struct Node {
    transport: Transport,
    incoming: Incoming,
}

impl Node {
    async fn start(keys: &ClusterKeys) -> Self {
        Self::of(Identity::generate(), keys).await
    }

    async fn of(identity: Identity, keys: &ClusterKeys) -> Self {
        Self::with(TransportConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            identity,
            keys: keys.clone(),
            allow: None,
            advertise: Vec::new(),
        })
        .await
    }

    async fn with(config: TransportConfig) -> Self {
        let (transport, incoming) = Transport::bind(config).await.unwrap();
        Self {
            transport,
            incoming,
        }
    }

    fn me(&self) -> PeerId {
        self.transport.me()
    }

    fn addr(&self) -> SocketAddr {
        self.transport.local_addr()
    }

    async fn connect(&self, to: &Self) -> Result<Link, ConnectError> {
        let addrs = [to.addr()];
        let dial = self.transport.connect(&addrs, Some(to.me()));
        tokio::time::timeout(PATIENCE, dial).await.unwrap()
    }

    async fn next(&mut self) -> Arrival {
        let next = tokio::time::timeout(PATIENCE, self.incoming.recv()).await;
        next.expect("nothing came").expect("the transport stopped")
    }

    async fn link_up(&mut self) -> Link {
        match self.next().await {
            Arrival::LinkUp(link) => link,
            other => panic!("no link, but {other:?}"),
        }
    }

    async fn link_down(&mut self) -> PeerId {
        match self.next().await {
            Arrival::LinkDown { peer } => peer,
            other => panic!("no end of a link, but {other:?}"),
        }
    }

    async fn message(&mut self) -> Bytes {
        match self.next().await {
            Arrival::Message { bytes, .. } => bytes,
            other => panic!("no message, but {other:?}"),
        }
    }

    async fn quiet(&mut self, span: Duration) {
        let next = tokio::time::timeout(span, self.incoming.recv()).await;
        assert!(next.is_err(), "{next:?}");
    }
}

fn keys() -> ClusterKeys {
    ClusterKeys::new(Token::generate())
}

struct Pair {
    alice: Node,
    bob: Node,
    /// Alice's end.
    link: Link,
    /// Bob's end.
    back: Link,
}

async fn pair() -> Pair {
    let keys = keys();
    let (mut alice, mut bob) = (Node::start(&keys).await, Node::start(&keys).await);
    let link = alice.connect(&bob).await.unwrap();
    alice.link_up().await;
    let back = bob.link_up().await;
    Pair {
        alice,
        bob,
        link,
        back,
    }
}
