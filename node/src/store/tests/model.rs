//! The store against a naive one.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Reserve {
        task: u8,
        version: u8,
    },
    Put {
        task: u8,
        version: u8,
        block: u32,
        seed: u64,
    },
    Batch {
        task: u8,
        version: u8,
    },
    Discard {
        task: u8,
        block: u32,
    },
    Complete {
        task: u8,
    },
    Remove {
        task: u8,
    },
    Flush,
    Reopen,
}

/// What a task should hold: its version, the seed of each block, batches, and whether it is complete.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    version: u8,
    blocks: BTreeMap<u32, u64>,
    batches: usize,
    complete: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (task, version, block) = (0_u8..3, 0_u8..2, 0_u32..5);
    let step = prop_oneof![
        3 => (task.clone(), version.clone()).prop_map(|(task, version)| Step::Reserve { task, version }),
        12 => (task.clone(), version.clone(), block.clone(), any::<u64>())
            .prop_map(|(task, version, block, seed)| Step::Put { task, version, block, seed }),
        2 => (task.clone(), version).prop_map(|(task, version)| Step::Batch { task, version }),
        2 => (task.clone(), block).prop_map(|(task, block)| Step::Discard { task, block }),
        1 => task.clone().prop_map(|task| Step::Complete { task }),
        1 => task.prop_map(|task| Step::Remove { task }),
        2 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

fn meta_of(version: u8) -> Meta {
    meta(Some(5 * 32_768 - 100), &format!("\"{version}\""))
}

async fn check(store: &Store, model: &BTreeMap<u8, Model>) {
    for number in 0..3 {
        let known = model.get(&number);
        assert_eq!(
            store.progress(task(number)).is_some(),
            known.is_some(),
            "task {number}"
        );
        let meta = meta_of(known.map_or(0, |model| model.version));
        for block in 0..5 {
            let read = store
                .read(task(number), meta.version, BlockIndex(block))
                .await;
            let seed = known.and_then(|model| model.blocks.get(&block));
            let wanted = seed.map(|seed| content(*seed, &meta.layout, block));
            assert!(read.ok() == wanted, "block {block} of task {number}");
        }
    }
}

fn apply(store: &Store, model: &mut BTreeMap<u8, Model>, step: &Step) {
    match *step {
        Step::Reserve {
            task: number,
            version,
        } => {
            drop(store.reserve(task(number), &meta_of(version), About::default()));
            let known = model.entry(number).or_insert_with(|| Model {
                version,
                ..Model::default()
            });
            if known.version != version {
                *known = Model {
                    version,
                    ..Model::default()
                };
            }
        }
        Step::Put {
            task: number,
            version,
            block,
            seed,
        } => {
            let meta = meta_of(version);
            let bytes = content(seed, &meta.layout, block);
            let put = store.put(task(number), meta.version, BlockIndex(block), bytes);
            let known = model
                .get_mut(&number)
                .filter(|model| model.version == version);
            assert_eq!(put.is_ok(), known.is_some());
            if let Some(known) = known {
                // Replacing a block that was checked as part of the whole makes the whole unchecked.
                known.complete &= known.blocks.insert(block, seed).is_none();
            }
        }
        Step::Batch {
            task: number,
            version,
        } => {
            let put = store.put_batch(task(number), batch(&meta_of(version), BEYOND));
            let known = model
                .get_mut(&number)
                .filter(|model| model.version == version);
            assert_eq!(put.is_ok(), known.is_some());
            if let Some(known) = known {
                known.batches += 1;
            }
        }
        Step::Discard {
            task: number,
            block,
        } => {
            store.discard(task(number), BlockIndex(block));
            if let Some(known) = model.get_mut(&number) {
                known.blocks.remove(&block);
                known.complete = false;
            }
        }
        Step::Complete { task: number } => {
            store.complete(task(number));
            if let Some(known) = model.get_mut(&number) {
                known.complete = true;
            }
        }
        Step::Remove { task: number } => {
            store.remove(task(number));
            model.remove(&number);
        }
        Step::Flush | Step::Reopen => {}
    }
}

fn assert_found(found: &[StoredTask], model: &BTreeMap<u8, Model>) {
    let found: BTreeMap<u8, Model> = found
        .iter()
        .map(|found| {
            let number = found.task.as_bytes()[0];
            let version = u8::from(found.meta.version != meta_of(0).version);
            let seed = |block: u32| {
                model
                    .get(&number)
                    .and_then(|model| model.blocks.get(&block))
                    .copied()
            };
            let blocks = found
                .have
                .iter()
                .map(|block| (block.0, seed(block.0).unwrap_or_default()))
                .collect();
            (
                number,
                Model {
                    version,
                    blocks,
                    batches: found.batches.len(),
                    complete: found.complete,
                },
            )
        })
        .collect();
    assert_eq!(found, *model);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_store_does_what_a_naive_one_does(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let mut store = open(folder.path()).store;
            let mut model = BTreeMap::new();
            for step in &steps {
                apply(&store, &mut model, step);
                if matches!(step, Step::Flush | Step::Reopen) {
                    store.flush().await;
                }
                if matches!(step, Step::Reopen) {
                    store.close().await;
                    let opened = open(folder.path());
                    assert_found(&opened.tasks, &model);
                    store = opened.store;
                }
                check(&store, &model).await;
            }
        });
    }
}
