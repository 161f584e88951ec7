//! Blocks beside messages.

use dfnode_tracker::{BlockDigest, VersionId};

use super::*;

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
                        room: _,
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
