//! A link from its first packet to its end.

use tokio::task::JoinSet;

use super::*;

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

/// A host whose cable took its IPv6 address away comes back by IPv4, to a peer that believes in the former link.
#[tokio::test]
async fn a_peer_that_was_heard_elsewhere_since_its_link_fell_silent_may_come_anew_at_once() {
    let keys = keys();
    // The one that decides has to be the one that did not lose the link.
    let mut identities = [Identity::generate(), Identity::generate()];
    identities.sort_by_key(Identity::peer);
    let [lower, higher] = identities;
    let mut bob = Node::of(lower, &keys).await;
    let mut alice = Node::of(higher, &keys).await;
    let lost = alice.connect(&bob).await.unwrap();
    alice.link_up().await;
    let back = bob.link_up().await;
    alice.transport.0.links.leave(&lost);
    let elsewhere: SocketAddr = "[::1]:9".parse().unwrap();
    let links = &bob.transport.0.links;
    let found = loop {
        links.heard(&alice.me(), elsewhere);
        let places = [Some(alice.addr()), Some(elsewhere)];
        assert_eq!(bob.transport.places_of(&alice.me()), places);
        // What the old connection says meanwhile of its own accord takes the doubt away.
        if let Ok(link) = alice.connect(&bob).await {
            break link;
        }
    };
    assert!(!found.is_same(&lost));
    assert_eq!(bob.link_down().await, alice.me());
    assert!(!bob.link_up().await.is_same(&back));
    assert_eq!(bob.transport.elsewhere(&alice.me()), None);
}

#[tokio::test]
async fn a_word_on_the_link_says_that_its_peer_is_there() {
    let mut pair = pair().await;
    let (bob, alice) = (&pair.bob.transport, pair.alice.me());
    bob.0.links.heard(&alice, "[::1]:9".parse().unwrap());
    pair.link.try_send(Bytes::from_static(b"here")).unwrap();
    assert_eq!(pair.bob.message().await, "here");
    assert_eq!(pair.bob.transport.elsewhere(&alice), None);
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
async fn the_line_ends_when_the_transport_stops() {
    let mut pair = pair().await;
    pair.alice.transport.shutdown().await;
    assert_eq!(pair.bob.link_down().await, pair.alice.me());
    let error = pair.alice.connect(&pair.bob).await.unwrap_err();
    assert_eq!(error, ConnectError::Shutdown);
}

/// Passes datagrams on between one client and `to` until it is cut.
async fn relay(to: SocketAddr, cut: CancellationToken) -> SocketAddr {
    let front = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let back = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = front.local_addr().unwrap();
    tokio::spawn(async move {
        let mut client = None;
        let (mut there, mut here) = ([0; 2048], [0; 2048]);
        loop {
            tokio::select! {
                biased;
                () = cut.cancelled() => break std::future::pending::<()>().await,
                got = front.recv_from(&mut there) => {
                    let (length, from) = got.unwrap();
                    client = Some(from);
                    back.send_to(&there[..length], to).await.unwrap();
                }
                got = back.recv_from(&mut here) => {
                    let (length, _) = got.unwrap();
                    front.send_to(&here[..length], client.unwrap()).await.unwrap();
                }
            }
        }
    });
    addr
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_noticed_once_it_is_spoken_to() {
    let keys = keys();
    let (mut alice, bob) = (Node::start(&keys).await, Node::start(&keys).await);
    let cut = CancellationToken::new();
    let addr = relay(bob.addr(), cut.clone()).await;
    let link = alice.transport.connect(&[addr], Some(bob.me())).await;
    alice.link_up().await;
    cut.cancel();
    link.unwrap()
        .try_send(Bytes::from_static(b"hello?"))
        .unwrap();
    assert_eq!(alice.link_down().await, bob.me());
}

#[tokio::test]
async fn a_transport_ends_when_nobody_listens_to_it() {
    let mut pair = pair().await;
    drop(pair.alice.incoming);
    assert_eq!(pair.bob.link_down().await, pair.alice.transport.me());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_joins_one_member_at_once_is_let_in() {
    let keys = keys();
    let mut seed = Node::start(&keys).await;
    let addr = seed.addr();
    let mut joining = JoinSet::new();
    for _ in 0..40 {
        let node = Node::start(&keys).await;
        joining.spawn(async move {
            let linked = node.transport.connect(&[addr], None).await;
            (linked.map(|_| ()), node)
        });
    }
    let mut nodes = Vec::new();
    while let Some(joined) = joining.join_next().await {
        let (linked, node) = joined.unwrap();
        assert_eq!(linked, Ok(()));
        nodes.push(node);
    }
    for _ in 0..40 {
        seed.link_up().await;
    }
    assert_eq!(seed.transport.links().len(), 40);
}

/// A node in a runtime that ends as a process does that is killed: without a word to anybody.
fn doomed(identity: Identity, keys: ClusterKeys) -> (tokio::runtime::Runtime, Node) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let start = runtime.spawn(async move { Node::of(identity, &keys).await });
    let node = std::thread::spawn(move || (futures::executor::block_on(start).unwrap(), runtime));
    let (node, runtime) = node.join().unwrap();
    (runtime, node)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_killed_and_comes_back_ends_its_old_links() {
    let keys = keys();
    let identity = Identity::generate();
    let mut alice = Node::start(&keys).await;
    let (runtime, bob) = doomed(identity.clone(), keys.clone());
    let link = alice.connect(&bob).await.unwrap();
    alice.link_up().await;
    let addr = bob.addr();
    // Once its threads have ended, nobody is left to say good-bye.
    let end = move || runtime.shutdown_timeout(PATIENCE);
    tokio::task::spawn_blocking(end).await.unwrap();
    drop(bob);
    let again = tokio::time::timeout(PATIENCE, async {
        loop {
            let config = TransportConfig {
                listen: addr,
                identity: identity.clone(),
                keys: keys.clone(),
                allow: None,
                advertise: Vec::new(),
            };
            match Transport::bind(config).await {
                Ok(bound) => return bound,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    });
    let _bob = again.await.expect("the address is free again");
    // An acknowledgement may have asked before.
    let _ = link.try_send(Bytes::from_static(b"are you there?"));
    let down = tokio::time::timeout(crate::transport::links::SILENCE / 2, alice.link_down());
    assert_eq!(down.await.expect("a reset, not silence"), link.peer());
}
