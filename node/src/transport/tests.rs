//! Two or more transports in one process, over loopback.

#![expect(
    clippy::wildcard_enum_match_arm,
    clippy::cast_possible_truncation,
    clippy::similar_names,
    reason = "test code"
)]

use std::time::Duration;

use dfnode_tracker::{BlockDigest, VersionId};

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

fn block(number: u32, length: usize) -> (BlockHeader, Bytes) {
    let header = BlockHeader {
        task: TaskId::from_bytes([1; 32]),
        version: VersionId::from_bytes([2; 32]),
        block: BlockIndex(number),
        length: u32::try_from(length).unwrap(),
    };
    let body: Vec<u8> = (0..length).map(|i| (i % 253) as u8).collect();
    (header, body.into())
}

#[tokio::test]
async fn two_members_link_and_talk_both_ways() {
    let mut pair = pair().await;
    assert_eq!(pair.link.peer(), pair.bob.me());
    assert_eq!(pair.back.peer(), pair.alice.me());
    assert_eq!(pair.back.remote(), pair.alice.addr());
    for number in 0..100_u8 {
        pair.link.try_send(Bytes::from(vec![number; 3])).unwrap();
        pair.back.try_send(Bytes::from(vec![number; 4])).unwrap();
    }
    for number in 0..100_u8 {
        assert_eq!(pair.bob.message().await, vec![number; 3]);
        assert_eq!(pair.alice.message().await, vec![number; 4]);
    }
    let large = Bytes::from(vec![9; dfnode_tracker::wire::MAX_MESSAGE_BYTES]);
    pair.link.try_send(large.clone()).unwrap();
    assert_eq!(pair.bob.message().await, large);
    pair.link.try_send(Bytes::new()).unwrap();
    assert_eq!(pair.bob.message().await, Bytes::new());
}

#[tokio::test]
async fn a_second_dial_finds_the_first_link() {
    let mut pair = pair().await;
    let again = pair.alice.connect(&pair.bob).await.unwrap();
    assert!(again.is_same(&pair.link));
    let blind = pair.alice.transport.connect(&[pair.bob.addr()], None).await;
    assert!(blind.unwrap().is_same(&pair.link));
    pair.bob.quiet(Duration::from_millis(200)).await;
}

#[tokio::test]
async fn another_cluster_key_is_refused_and_said() {
    let (mut alice, mut bob) = (Node::start(&keys()).await, Node::start(&keys()).await);
    let error = alice.connect(&bob).await.unwrap_err();
    assert_eq!(error, ConnectError::WrongClusterKey(bob.addr()));
    let error = bob.connect(&alice).await.unwrap_err();
    assert_eq!(error, ConnectError::WrongClusterKey(alice.addr()));
    let open = Node::start(&ClusterKeys::open()).await;
    let error = open.connect(&alice).await.unwrap_err();
    assert_eq!(error, ConnectError::WrongClusterKey(alice.addr()));
    alice.quiet(Duration::from_millis(100)).await;
    bob.quiet(Duration::from_millis(1)).await;
}

#[tokio::test]
async fn a_key_under_rotation_is_accepted() {
    let (old, new) = (Token::generate(), Token::generate());
    let both = ClusterKeys::new(new.clone()).with_previous(old.clone());
    let rotated = Node::start(&both).await;
    for keys in [ClusterKeys::new(old), ClusterKeys::new(new)] {
        let other = Node::start(&keys).await;
        assert!(other.connect(&rotated).await.is_ok());
        let other = Node::start(&keys).await;
        assert!(rotated.connect(&other).await.is_ok());
    }
}

#[tokio::test]
async fn who_is_not_on_the_list_is_refused_by_either_side() {
    let keys = keys();
    let (friend, stranger) = (Identity::generate(), Identity::generate());
    let picky = Node::with(TransportConfig {
        listen: ([127, 0, 0, 1], 0).into(),
        identity: Identity::generate(),
        keys: keys.clone(),
        allow: Some([friend.peer()].into()),
        advertise: Vec::new(),
    })
    .await;
    let stranger = Node::of(stranger, &keys).await;
    assert!(stranger.connect(&picky).await.is_err());
    assert!(picky.connect(&stranger).await.is_err());
    let friend = Node::of(friend, &keys).await;
    assert!(friend.connect(&picky).await.is_ok());
}

#[tokio::test]
async fn a_dial_tells_why_it_failed() {
    let keys = keys();
    let (alice, bob) = (Node::start(&keys).await, Node::start(&keys).await);
    let mine = alice.transport.connect(&[alice.addr()], None).await;
    assert_eq!(mine.unwrap_err(), ConnectError::Myself(alice.addr()));
    let wrong = alice
        .transport
        .connect(&[bob.addr()], Some(PeerId::from_bytes([1; 32])))
        .await;
    let expected = ConnectError::OtherPeer {
        addr: bob.addr(),
        found: bob.me(),
    };
    assert_eq!(wrong.unwrap_err(), expected);
    let none = alice.transport.connect(&[], None).await;
    assert_eq!(none.unwrap_err(), ConnectError::NoAddress);
    let open = Node::start(&ClusterKeys::open()).await;
    let public: SocketAddr = "192.0.2.1:9".parse().unwrap();
    let refused = open.transport.connect(&[public], None).await;
    assert_eq!(refused.unwrap_err(), ConnectError::PublicAddress(public));
}

#[tokio::test]
async fn a_dead_address_costs_a_head_start_and_no_more() {
    let keys = keys();
    let (alice, bob) = (Node::start(&keys).await, Node::start(&keys).await);
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addrs = [silent.local_addr().unwrap(), bob.addr()];
    let dial = alice.transport.connect(&addrs, Some(bob.me()));
    let link = tokio::time::timeout(Duration::from_secs(1), dial).await;
    assert!(link.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_dial_each_other_at_once_keep_one_link_and_all_messages() {
    let keys = keys();
    for _ in 0..20 {
        let (mut alice, mut bob) = (Node::start(&keys).await, Node::start(&keys).await);
        let (there, back) = tokio::join!(alice.connect(&bob), bob.connect(&alice));
        let (there, back) = (there.unwrap(), back.unwrap());
        there.try_send(Bytes::from_static(b"from alice")).unwrap();
        back.try_send(Bytes::from_static(b"from bob")).unwrap();
        assert!(alice.link_up().await.is_same(&there));
        assert!(bob.link_up().await.is_same(&back));
        assert_eq!(alice.message().await, "from bob");
        assert_eq!(bob.message().await, "from alice");
        alice.quiet(Duration::from_millis(50)).await;
        bob.quiet(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_peer_that_restarted_takes_the_place_of_its_former_self() {
    let keys = keys();
    let identity = Identity::generate();
    let mut alice = Node::start(&keys).await;
    for _ in 0..3 {
        let bob = Node::of(identity.clone(), &keys).await;
        bob.connect(&alice).await.unwrap();
        assert_eq!(alice.link_up().await.peer(), identity.peer());
        // Its socket stays open and silent: as if the process had been killed.
        std::mem::forget(bob);
        let again = Node::of(identity.clone(), &keys).await;
        let link = again.connect(&alice).await.unwrap();
        assert_eq!(alice.link_down().await, identity.peer());
        assert_eq!(alice.link_up().await.peer(), identity.peer());
        link.try_send(Bytes::from_static(b"me again")).unwrap();
        assert_eq!(alice.message().await, "me again");
        again.transport.shutdown().await;
        assert_eq!(alice.link_down().await, identity.peer());
    }
}

#[tokio::test]
async fn both_ends_hear_that_a_link_is_closed_and_can_link_again() {
    let mut pair = pair().await;
    pair.link
        .try_send(Bytes::from_static(b"last words"))
        .unwrap();
    assert_eq!(pair.bob.message().await, "last words");
    pair.alice.transport.close(&pair.bob.me(), Close::Unwanted);
    assert_eq!(pair.alice.link_down().await, pair.bob.me());
    assert_eq!(pair.bob.link_down().await, pair.alice.me());
    assert_eq!(
        pair.link.try_send(Bytes::from_static(b"x")),
        Err(SendMessageError::Closed)
    );
    assert!(pair.alice.transport.link(&pair.bob.me()).is_none());
    pair.bob.connect(&pair.alice).await.unwrap();
    pair.alice.link_up().await;
    pair.bob.link_up().await;
}

#[tokio::test]
async fn an_isolated_peer_is_refused_until_its_time_is_over() {
    let mut pair = pair().await;
    let until = Clock::now() + Duration::from_millis(600);
    pair.alice.transport.refuse(pair.bob.me(), until);
    assert_eq!(pair.alice.link_down().await, pair.bob.me());
    pair.bob.link_down().await;
    let error = pair.bob.connect(&pair.alice).await.unwrap_err();
    assert_eq!(error, ConnectError::Refused(pair.alice.addr()));
    let error = pair.alice.connect(&pair.bob).await.unwrap_err();
    assert_eq!(error, ConnectError::Unwanted(pair.bob.me()));
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(pair.bob.connect(&pair.alice).await.is_ok());
}

#[tokio::test]
async fn a_block_arrives_whole_with_its_digest() {
    let mut pair = pair().await;
    for (number, length) in [(0, 1), (1, 1000), (2, 256 * 1024), (3, 4 * 1024 * 1024)] {
        let (header, body) = block(number, length);
        let send = pair.link.send_block(header, body.clone());
        let receive = async {
            let flow = pair.bob.next().await;
            assert!(matches!(flow, Arrival::Flow { header: h, .. } if h == header));
            loop {
                match pair.bob.next().await {
                    Arrival::Flow { .. } => {}
                    Arrival::Block {
                        from,
                        header: h,
                        body: b,
                        digest,
                    } => return (from, h, b, digest),
                    other => panic!("{other:?}"),
                }
            }
        };
        let (sent, received) = tokio::join!(send, receive);
        sent.unwrap();
        let digest = BlockDigest::of(&body);
        assert_eq!(received, (pair.alice.me(), header, body, digest));
    }
}

#[tokio::test]
async fn a_block_that_is_stopped_ends_for_both() {
    let mut pair = pair().await;
    let (header, body) = block(1, 4 * 1024 * 1024);
    let (bob, alice) = (pair.bob.transport.clone(), pair.alice.me());
    let send = pair.link.send_block(header, body);
    let stop = async {
        assert!(matches!(pair.bob.next().await, Arrival::Flow { .. }));
        bob.stop_receive(&alice, &header.task, header.block);
    };
    let (sent, ()) = tokio::join!(send, stop);
    // On a fast machine the block may have been complete when it was stopped.
    if sent.is_err() {
        assert_eq!(sent, Err(SendBlockError::Stopped));
        pair.bob.quiet(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_block_that_its_sender_takes_back_is_lost() {
    let mut pair = pair().await;
    let (header, body) = block(1, 4 * 1024 * 1024);
    let send = pair.link.send_block(header, body);
    tokio::select! {
        biased;
        flow = pair.bob.next() => assert!(matches!(flow, Arrival::Flow { .. })),
        sent = send => panic!("sent before it arrived: {sent:?}"),
    }
    loop {
        match pair.bob.next().await {
            Arrival::Flow { .. } => {}
            Arrival::BlockLost { header: lost, .. } => break assert_eq!(lost, header),
            other => panic!("{other:?}"),
        }
    }
    pair.link.try_send(Bytes::from_static(b"alive")).unwrap();
    assert_eq!(pair.bob.message().await, "alive");
}

#[tokio::test]
async fn a_wrong_length_never_leaves_the_sender() {
    let pair = pair().await;
    let (mut header, body) = block(1, 10);
    header.length = 11;
    let sent = pair.link.send_block(header, body).await;
    assert_eq!(sent, Err(SendBlockError::WrongLength));
}

#[tokio::test]
async fn a_block_longer_than_its_header_says_costs_the_link() {
    let mut pair = pair().await;
    let (header, _) = block(1, 10);
    let mut stream = pair.link.connection().open_uni().await.unwrap();
    stream.write_all(&header.encode()).await.unwrap();
    stream.write_all(&[0; 11]).await.unwrap();
    stream.finish().unwrap();
    let mut lost = 0;
    loop {
        match pair.bob.next().await {
            Arrival::LinkDown { .. } => break,
            Arrival::BlockLost { .. } => lost += 1,
            Arrival::Flow { .. } | Arrival::Block { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(lost <= 1);
    assert_eq!(pair.alice.link_down().await, pair.bob.me());
}

#[tokio::test]
async fn an_unknown_kind_of_stream_is_refused_and_nothing_else() {
    let mut pair = pair().await;
    let mut stream = pair.link.connection().open_uni().await.unwrap();
    stream.write_all(&[77; 200]).await.unwrap();
    assert!(stream.stopped().await.unwrap().is_some());
    pair.link.try_send(Bytes::from_static(b"alive")).unwrap();
    assert_eq!(pair.bob.message().await, "alive");
}

#[tokio::test]
async fn messages_overtake_blocks() {
    let mut pair = pair().await;
    let mut sending = Vec::new();
    for number in 0..16 {
        let (header, body) = block(number, 1024 * 1024);
        let link = pair.link.clone();
        sending.push(tokio::spawn(
            async move { link.send_block(header, body).await },
        ));
    }
    tokio::time::sleep(Duration::from_millis(5)).await;
    pair.link.try_send(Bytes::from_static(b"urgent")).unwrap();
    let mut blocks = 0;
    loop {
        match pair.bob.next().await {
            Arrival::Message { .. } => break,
            Arrival::Block { .. } => blocks += 1,
            Arrival::Flow { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(blocks < 16, "{blocks}");
    while blocks < 16 {
        if let Arrival::Block { .. } = pair.bob.next().await {
            blocks += 1;
        }
    }
    for sent in sending {
        sent.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_push_pull_has_three_steps() {
    let mut pair = pair().await;
    let initiator = async {
        let answered = pair.link.sync(b"open".to_vec()).await.unwrap();
        assert_eq!(answered.answer, "answer");
        answered.finish(b"last".to_vec()).await.unwrap();
    };
    let acceptor = async {
        let Arrival::Sync { from, open, reply } = pair.bob.next().await else {
            panic!("no push/pull");
        };
        assert_eq!((from, open), (pair.alice.me(), Bytes::from_static(b"open")));
        assert_eq!(reply.answer(b"answer".to_vec()).await.unwrap(), "last");
    };
    tokio::join!(initiator, acceptor);
}

#[tokio::test]
async fn a_push_pull_that_is_let_go_is_heard() {
    let mut pair = pair().await;
    let initiator = pair.link.sync(b"open".to_vec());
    let acceptor = async { drop(pair.bob.next().await) };
    let (opened, ()) = tokio::join!(initiator, acceptor);
    assert_eq!(opened.unwrap_err(), SyncError::Ended);
}

#[tokio::test]
async fn sealed_packets_pass_beside_a_link_and_strangers_do_not() {
    let keys = keys();
    let (alice, mut bob) = (Node::start(&keys).await, Node::start(&keys).await);
    let stranger = Node::start(&ClusterKeys::new(Token::generate())).await;
    for number in 0..50_u8 {
        stranger
            .transport
            .send_packet(PacketKind::Gossip, bob.addr(), b"let me in");
        alice
            .transport
            .send_packet(PacketKind::Tracker, bob.addr(), &[number]);
    }
    for number in 0..50_u8 {
        let Arrival::Packet {
            kind,
            from,
            addr,
            bytes,
        } = bob.next().await
        else {
            panic!("no packet");
        };
        assert_eq!((kind, from), (PacketKind::Tracker, alice.me()));
        assert_eq!((addr, &bytes[..]), (alice.addr(), &[number][..]));
    }
    assert_eq!(bob.transport.addr_of(&alice.me()), Some(alice.addr()));
    assert_eq!(bob.transport.addr_of(&stranger.me()), None);
    let long = vec![0; MAX_PACKET_BODY_BYTES + 1];
    alice
        .transport
        .send_packet(PacketKind::Gossip, bob.addr(), &long);
    bob.quiet(Duration::from_millis(100)).await;
}

#[tokio::test]
async fn a_dual_stack_socket_talks_ipv4_and_names_it_so() {
    let keys = keys();
    let dual = Node::with(TransportConfig {
        listen: "[::]:0".parse().unwrap(),
        identity: Identity::generate(),
        keys: keys.clone(),
        allow: None,
        advertise: Vec::new(),
    })
    .await;
    let mut alice = Node::start(&keys).await;
    dual.transport
        .send_packet(PacketKind::Gossip, alice.addr(), b"x");
    let Arrival::Packet { addr, .. } = alice.next().await else {
        panic!("no packet");
    };
    assert_eq!(addr.ip(), alice.addr().ip());
    let link = alice
        .transport
        .connect(&[addr], Some(dual.me()))
        .await
        .unwrap();
    assert_eq!(link.remote(), addr);
    let advertised = dual.transport.advertised();
    assert!(!advertised.is_empty());
    assert!(
        advertised
            .iter()
            .all(|addr| addr.port() == dual.addr().port())
    );
}

#[tokio::test]
async fn rubbish_on_the_port_harms_nobody() {
    let pair = pair().await;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state = 1_u64;
    for round in 0..5000_usize {
        let bytes: Vec<u8> = (0..round % 1300)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        socket.send_to(&bytes, pair.bob.addr()).unwrap();
    }
    let mut pair = pair;
    pair.link.try_send(Bytes::from_static(b"alive")).unwrap();
    assert_eq!(pair.bob.message().await, "alive");
}

#[tokio::test]
async fn an_open_cluster_has_no_public_address() {
    let config = |listen: &str, advertise: Vec<SocketAddr>| TransportConfig {
        listen: listen.parse().unwrap(),
        identity: Identity::generate(),
        keys: ClusterKeys::open(),
        allow: None,
        advertise,
    };
    let public: SocketAddr = "192.0.2.1:0".parse().unwrap();
    for config in [
        config("192.0.2.1:0", Vec::new()),
        config("127.0.0.1:0", vec![public]),
    ] {
        let bound = Transport::bind(config).await;
        assert!(matches!(bound, Err(BindError::PublicAddress(addr)) if addr == public));
    }
    let (alice, bob) = (
        Node::with(config("127.0.0.1:0", Vec::new())).await,
        Node::with(config("127.0.0.1:0", Vec::new())).await,
    );
    assert!(alice.connect(&bob).await.is_ok());
}

#[tokio::test]
async fn a_stranger_that_proves_nothing_is_dropped_in_time() {
    let keys = keys();
    let mut bob = Node::start(&keys).await;
    let stranger = Node::start(&keys).await;
    let connection = stranger
        .transport
        .0
        .endpoint
        .connect(bob.addr(), "dfnode")
        .unwrap()
        .await
        .unwrap();
    // Connected is not admitted: streams are not served and the time is short.
    let mut stream = connection.open_uni().await.unwrap();
    stream.write_all(&[1; 100]).await.unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(5), connection.closed()).await;
    assert_eq!(Close::of(&closed.unwrap()), Some(Close::NotAdmitted));
    bob.quiet(Duration::from_millis(10)).await;
}

#[tokio::test]
async fn the_line_ends_when_the_transport_stops() {
    let mut pair = pair().await;
    pair.alice.transport.shutdown().await;
    assert_eq!(pair.bob.link_down().await, pair.alice.me());
    let error = pair.alice.connect(&pair.bob).await.unwrap_err();
    assert_eq!(error, ConnectError::Shutdown);
}
