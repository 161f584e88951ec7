//! Who does not belong here.

use super::*;
use crate::transport::endpoint::STRANGER_WINDOW_BYTES;

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
    // Nor is more kept for it than admission takes.
    let mut taken = 0;
    let fill = async {
        while let Ok(bytes) = stream.write(&[1; 1000]).await {
            taken += bytes;
        }
    };
    let is_stuck = tokio::time::timeout(Duration::from_secs(1), fill).await;
    assert!(is_stuck.is_err(), "{taken} bytes");
    assert!(taken <= STRANGER_WINDOW_BYTES as usize, "{taken} bytes");
    let closed = tokio::time::timeout(Duration::from_secs(5), connection.closed()).await;
    assert_eq!(Close::of(&closed.unwrap()), Some(Close::NotAdmitted));
    bob.quiet(Duration::from_millis(10)).await;
}
