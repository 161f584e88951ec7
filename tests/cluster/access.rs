//! Private stays private.

use std::time::Duration;

use dfnode_node::cluster_key::{ClusterKeys, Token};
use dfnode_node::get::{
    Caller, GetError, GetRequest, RemoveError, RemoveRequest, SourcePolicy, TaskName,
};

use crate::cluster::{Cluster, ME, eventually, get, get_as};
use crate::origin::{Origin, Resource, noise};

fn with_token(origin: &Origin, token: &str) -> GetRequest {
    let mut request = GetRequest::new(origin.url("/secret"));
    request
        .headers
        .push(("Authorization".to_owned(), token.to_owned()));
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_without_credentials_never_gets_what_another_could_read() {
    let file = noise(1_000_000, 40);
    let origin =
        Origin::start(&[("/secret", Resource::file(&file).only_for("Bearer right"))]).await;
    let cluster = Cluster::start(2).await;
    assert_eq!(
        get(&cluster.node(0), with_token(&origin, "Bearer right"))
            .await
            .unwrap()
            .bytes,
        file
    );
    for node in 0..2 {
        let refused = cluster.get(node, origin.url("/secret")).await.unwrap_err();
        assert_eq!(
            refused,
            GetError::SourceRefused { status: 401 },
            "node {node}"
        );
        let refused = get(&cluster.node(node), with_token(&origin, "Bearer wrong"))
            .await
            .unwrap_err();
        assert_eq!(
            refused,
            GetError::SourceRefused { status: 401 },
            "node {node}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_whom_the_source_lets_in_share_one_copy() {
    let file = noise(1_000_000, 41);
    let resource = Resource::file(&file)
        .only_for("Bearer one")
        .only_for("Bearer two");
    let origin = Origin::start(&[("/secret", resource)]).await;
    let cluster = Cluster::start(2).await;
    assert_eq!(
        get(&cluster.node(0), with_token(&origin, "Bearer one"))
            .await
            .unwrap()
            .bytes,
        file
    );
    assert_eq!(
        get(&cluster.node(1), with_token(&origin, "Bearer two"))
            .await
            .unwrap()
            .bytes,
        file
    );
    assert_eq!(
        get(&cluster.node(0), with_token(&origin, "Bearer two"))
            .await
            .unwrap()
            .bytes,
        file
    );
    assert_eq!(origin.body_bytes(), file.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nothing_identifies_is_its_callers_alone() {
    let (ones, twos) = (noise(300_000, 49), noise(300_000, 50));
    let resource = Resource::stream(&ones)
        .but_for("Bearer two", &twos)
        .slowly(300_000);
    let origin = Origin::start(&[("/secret", resource)]).await;
    let cluster = Cluster::start(2).await;
    let [one, two] = ["Bearer one", "Bearer two"].map(|token| with_token(&origin, token));
    for other in 0..2 {
        let (node, beside) = (cluster.node(0), cluster.node(other));
        let later = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            get(&beside, two.clone()).await
        };
        let (first, second) = tokio::join!(get(&node, one.clone()), later);
        assert!(first.unwrap().bytes == ones, "beside node {other}");
        assert!(second.unwrap().bytes == twos, "on node {other}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_credentials_gets_an_answer_to_them() {
    let (login, secret) = (noise(50_000, 54), noise(50_000, 55));
    for (path, resource) in [
        ("/secret", Resource::stream(&login)),
        ("/secret", Resource::file(&login).without_a_name()),
    ] {
        let resource = resource.but_for("Bearer two", &secret);
        let origin = Origin::start(&[(path, resource)]).await;
        let cluster = Cluster::start(2).await;
        assert!(cluster.get(0, origin.url(path)).await.unwrap().bytes == login);
        for node in 0..2 {
            let got = get(&cluster.node(node), with_token(&origin, "Bearer two")).await;
            assert!(got.unwrap().bytes == secret, "on node {node}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_callers_refusal_does_not_end_anothers_download() {
    let file = noise(1_000_000, 42);
    let origin =
        Origin::start(&[("/secret", Resource::file(&file).only_for("Bearer right"))]).await;
    let cluster = Cluster::start(1).await;
    let node = cluster.node(0);
    let (wrong, right) = tokio::join!(
        get(&node, GetRequest::new(origin.url("/secret"))),
        get(&node, with_token(&origin, "Bearer right")),
    );
    assert_eq!(wrong.unwrap_err(), GetError::SourceRefused { status: 401 });
    assert_eq!(right.unwrap().bytes, file);
    assert!(origin.refusals() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_with_another_key_is_never_a_peer() {
    let file = noise(300_000, 43);
    let origin = Origin::start(&[("/file", Resource::file(&file))]).await;
    let mut cluster = Cluster::start(2).await;
    let stranger = cluster
        .add_with(|config| config.keys = ClusterKeys::new(Token::generate()))
        .await;
    cluster.get(0, origin.url("/file")).await.unwrap();
    let got = cluster.get(stranger, origin.url("/file")).await.unwrap();
    assert_eq!(got.bytes, file);
    assert_eq!(got.summary.from_peers, 0);
    assert_eq!(cluster.node(stranger).status().await.peers, 0);
    assert_eq!(cluster.node(0).status().await.peers, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_right_credentials_work_right_after_the_wrong_ones() {
    let file = noise(200_000, 44);
    let origin =
        Origin::start(&[("/secret", Resource::file(&file).only_for("Bearer right"))]).await;
    let cluster = Cluster::start(2).await;
    for node in 0..2 {
        let refused = get(&cluster.node(node), with_token(&origin, "Bearer wrong"))
            .await
            .unwrap_err();
        assert_eq!(refused, GetError::SourceRefused { status: 401 });
        let got = get(&cluster.node(node), with_token(&origin, "Bearer right"))
            .await
            .unwrap();
        assert_eq!(got.bytes, file, "node {node}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_header_that_could_poison_a_url_is_refused() {
    let origin = Origin::start(&[("/file", Resource::file(&noise(1000, 45)))]).await;
    let cluster = Cluster::start(1).await;
    for source in [SourcePolicy::Auto, SourcePolicy::Only] {
        let mut request = GetRequest::new(origin.url("/file"));
        request.source = source;
        let host = ("hOST".to_owned(), "attacker.example".to_owned());
        request.headers.push(host);
        let refused = get(&cluster.node(0), request).await.unwrap_err();
        assert!(matches!(refused, GetError::Usage { .. }), "{refused}");
    }
    assert_eq!(origin.requests(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_the_source_has_refused_is_not_let_in_once_it_is_down() {
    let file = noise(200_000, 46);
    let resource = Resource::file(&file).only_for("Bearer one");
    let origin = Origin::start(&[("/secret", resource)]).await;
    let cluster = Cluster::start(1).await;
    let node = cluster.node(0);
    let got = get(&node, with_token(&origin, "Bearer one")).await.unwrap();
    assert_eq!(got.bytes, file);
    origin.put("/secret", Resource::file(&file).only_for("Bearer two"));
    let mut anew = with_token(&origin, "Bearer one");
    anew.max_age = Some(Duration::ZERO);
    let refused = get(&node, anew).await.unwrap_err();
    assert_eq!(refused, GetError::SourceRefused { status: 401 });
    origin.die();
    let down = get(&node, with_token(&origin, "Bearer one")).await;
    assert!(down.is_err(), "a right that was revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_file_is_removed_by_its_user_or_root_alone() {
    let file = noise(1000, 47);
    let resource = Resource::file(&file).only_for("Bearer one");
    let open = Resource::file(&file);
    let origin = Origin::start(&[("/secret", resource), ("/open", open)]).await;
    let cluster = Cluster::start(1).await;
    let node = cluster.node(0);
    let remove = async |uid: u32, path: &str| {
        let request = RemoveRequest {
            what: TaskName::Url {
                url: origin.url(path),
                filter: Vec::new(),
                tag: String::new(),
            },
            cluster: false,
        };
        let outcome = async || node.remove(Caller { uid }, request.clone()).await;
        // The download that has just ended may not have left yet.
        eventually("nobody uses it", async || {
            !matches!(outcome().await, Err(RemoveError::InUse))
        })
        .await;
        node.tasks().await.is_empty()
    };
    for (uid, is_theirs) in [(ME.uid + 1, false), (0, true), (ME.uid, true)] {
        get(&node, with_token(&origin, "Bearer one")).await.unwrap();
        assert_eq!(remove(uid, "/secret").await, is_theirs, "user {uid}");
    }
    cluster.get(0, origin.url("/open")).await.unwrap();
    assert!(remove(ME.uid + 1, "/open").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_file_is_theirs_to_whom_the_source_gave_it() {
    let file = noise(1000, 48);
    let resource = Resource::file(&file)
        .only_for("Bearer one")
        .only_for("Bearer two");
    let origin = Origin::start(&[("/secret", resource)]).await;
    let cluster = Cluster::start(1).await;
    let node = cluster.node(0);
    let [first, second, refused] = [1001, 1002, 1003].map(|uid| Caller { uid });
    let ask = async |caller, token| get_as(caller, &node, with_token(&origin, token)).await;
    ask(refused, "Bearer wrong").await.unwrap_err();
    ask(first, "Bearer one").await.unwrap();
    ask(second, "Bearer two").await.unwrap();
    ask(refused, "Bearer wrong").await.unwrap_err();
    let tasks = node.tasks().await;
    let [task] = &tasks[..] else {
        panic!("one task, not {tasks:?}")
    };
    assert_eq!(task.owners, Some(vec![first.uid, second.uid]));
}
