//! Sealed packets on the same port.

use super::*;

#[tokio::test]
async fn sealed_packets_pass_beside_a_link_and_strangers_do_not() {
    let keys = keys();
    let (alice, mut bob) = (Node::start(&keys).await, Node::start(&keys).await);
    let stranger = Node::start(&ClusterKeys::new(Token::generate())).await;
    for number in 0..50_u8 {
        stranger
            .transport
            .send_packet(PacketKind::Gossip, [bob.addr()], b"let me in");
        alice
            .transport
            .send_packet(PacketKind::Tracker, [bob.addr()], &[number]);
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
    assert_eq!(
        bob.transport.places_of(&alice.me()),
        [Some(alice.addr()), None]
    );
    assert_eq!(bob.transport.places_of(&stranger.me()), [None, None]);
    let long = vec![0; MAX_PACKET_BODY_BYTES + 1];
    alice
        .transport
        .send_packet(PacketKind::Gossip, [bob.addr()], &long);
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
        .send_packet(PacketKind::Gossip, [alice.addr()], b"x");
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
async fn a_packet_without_a_way_is_told_from_one_that_may_arrive() {
    let keys = keys();
    // It speaks IPv4 alone.
    let alice = Node::start(&keys).await;
    let mut bob = Node::start(&keys).await;
    let nowhere = "[fd99::1]:65000".parse().unwrap();
    assert!(
        !alice
            .transport
            .send_packet(PacketKind::Gossip, [nowhere], b"x")
    );
    assert!(alice.transport.send_packet(
        PacketKind::Gossip,
        [nowhere, bob.addr(), bob.addr()],
        b"x"
    ));
    assert!(matches!(bob.next().await, Arrival::Packet { .. }));
    // It was one packet, whatever way it came.
    bob.quiet(Duration::from_millis(50)).await;
}
