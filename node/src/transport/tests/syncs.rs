//! Push/pulls.

use super::*;

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
