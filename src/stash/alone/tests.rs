use super::*;
use crate::{
    phase::Phase,
    protocol::{Belief, Fence},
};
use std::path::PathBuf;

const STASH: &str = "echoseen";

fn key(name: &str) -> Key {
    Key::from_bytes(name.as_bytes().to_vec())
}

fn open(dir: &Path) -> Alone {
    Alone::open(dir, STASH, Gauge::noop()).unwrap()
}

fn bounded(dir: &Path, keys_max: usize, bytes_max: u64) -> Alone {
    Alone::open_with(dir, STASH, Gauge::noop(), Bounds { keys_max, bytes_max }).unwrap()
}

fn file(dir: &Path) -> PathBuf {
    path_in(dir, STASH)
}

fn on_disk(dir: &Path) -> journal::Contents {
    journal::parse(&std::fs::read(file(dir)).unwrap(), STASH).unwrap()
}

fn belief(phase: Phase, version: u64) -> Belief {
    let fence = Fence { version, phase, stash: STASH.into(), shards: "d".into(), member: "m".into(), ahead: None };
    Belief::new(fence, true, true)
}

#[tokio::test]
async fn a_key_is_durable_before_the_answer_and_stands_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let alone = open(dir.path());
    assert_eq!((alone.figures(), alone.why_unclean()), (AloneFigures::default(), None));
    for name in ["a", "b", "a"] {
        drop(alone.note(&key(name), 3).await.unwrap());
        assert!(on_disk(dir.path()).keys.contains(&key(name)));
    }
    assert_eq!(on_disk(dir.path()).keys.len(), 2);
    let told = alone.figures();
    assert_eq!((told.keys, told.overflowed, told.trouble), (2, false, None));
    assert!(told.since.is_some() && alone.why_unclean().unwrap().starts_with("2 keys"));
    // The next process knows as much.
    drop(alone);
    assert_eq!(open(dir.path()).figures().keys, 2);
}

#[tokio::test]
async fn writes_that_come_together_are_all_noted() {
    let dir = tempfile::tempdir().unwrap();
    let alone = Arc::new(open(dir.path()));
    let mut writes = tokio::task::JoinSet::new();
    for i in 0..500 {
        let alone = alone.clone();
        writes.spawn(async move { alone.note(&key(&format!("k{}", i % 250)), 1).await.is_ok() });
    }
    assert!(writes.join_all().await.into_iter().all(|noted| noted));
    assert_eq!((alone.figures().keys, on_disk(dir.path()).keys.len()), (250, 250));
}

#[tokio::test]
async fn a_key_is_ripe_a_lease_after_its_last_lone_write_and_healed_only_of_that() {
    let dir = tempfile::tempdir().unwrap();
    let alone = open(dir.path());
    drop(alone.note(&key("a"), 3).await.unwrap());
    assert!(alone.ripe(3, Duration::from_secs(60)).is_empty(), "too early");
    assert!(alone.ripe(4, Duration::ZERO).is_empty(), "of another version");
    let before = alone.ripe(3, Duration::ZERO);
    // Written again while it is being healed.
    drop(alone.note(&key("a"), 3).await.unwrap());
    alone.healed(&before[0]);
    assert_eq!(alone.figures().keys, 1);
    alone.finish().await;
    assert!(file(dir.path()).exists());
    let again = alone.ripe(3, Duration::ZERO);
    alone.healed(&again[0]);
    alone.healed(&again[0]);
    assert_eq!(alone.figures().keys, 0);
    assert!(alone.figures().since.is_some(), "unclean until the journal is gone");
    alone.finish().await;
    assert!(!file(dir.path()).exists());
    assert_eq!(alone.figures(), AloneFigures::default());
    // And it all begins anew.
    drop(alone.note(&key("a"), 3).await.unwrap());
    assert_eq!(on_disk(dir.path()).keys, [key("a")]);
}

#[tokio::test]
async fn more_than_it_holds_is_told_and_never_healed() {
    let (many, long) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (dir, keys_max, bytes_max) in [(&many, 2, 1 << 20), (&long, 100, 200)] {
        let alone = bounded(dir.path(), keys_max, bytes_max);
        for name in ["a", "b", "c", "d", "e", "f", "g"] {
            drop(alone.note(&key(name), 3).await.unwrap());
        }
        let told = alone.figures();
        assert!(told.overflowed && told.trouble.unwrap().contains("has overflowed"));
        assert!(on_disk(dir.path()).overflowed);
        assert!(alone.ripe(3, Duration::ZERO).is_empty());
        alone.finish().await;
        drop(alone);
        let again = bounded(dir.path(), keys_max, bytes_max);
        assert!(again.figures().overflowed && again.why_unclean().is_some());
        assert!(again.ripe(3, Duration::ZERO).is_empty());
        again.finish().await;
        assert!(file(dir.path()).exists());
    }
}

#[tokio::test]
async fn a_damaged_journal_is_named_and_the_mirror_stays_unclean() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).note(&key("a"), 3).await.unwrap());
    let mut bytes = std::fs::read(file(dir.path())).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(file(dir.path()), &bytes).unwrap();
    let alone = open(dir.path());
    let trouble = alone.figures().trouble.unwrap();
    assert!(trouble.contains("echoseen.alone.journal damaged at byte"), "{trouble}");
    assert!(trouble.contains("kask-only") && alone.why_unclean().is_some());
    // The flag is durable: writes go on, and nothing is written into the damaged file.
    drop(alone.note(&key("b"), 3).await.unwrap());
    assert!(alone.ripe(3, Duration::ZERO).is_empty());
    alone.finish().await;
    assert_eq!(std::fs::read(file(dir.path())).unwrap(), bytes);
}

#[tokio::test]
async fn a_journal_of_another_version_is_told_and_set_aside_when_redis_is_the_sequencer_again() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).note(&key("a"), 3).await.unwrap());
    let alone = open(dir.path());
    alone.compare(&belief(Phase::RedisStandby, 0)).await;
    alone.compare(&belief(Phase::RedisStandby, 3)).await;
    assert_eq!(alone.figures().trouble, None, "not confirmed yet, or its own");
    alone.compare(&belief(Phase::RedisStandby, 5)).await;
    let trouble = alone.figures().trouble.unwrap();
    assert!(trouble.contains("belongs to version 3 of the phase, which is 5 now"), "{trouble}");
    drop(alone.note(&key("b"), 5).await.unwrap());
    assert!(alone.ripe(3, Duration::ZERO).is_empty() && alone.ripe(5, Duration::ZERO).is_empty());
    assert!(file(dir.path()).exists());
    alone.compare(&belief(Phase::KaskFirst, 6)).await;
    assert_eq!(alone.figures(), AloneFigures::default());
    assert!(!file(dir.path()).exists());
    assert!(dir.path().join("echoseen.alone.journal.before-6").exists(), "for an operator to look at");
    // A journal from the future: state_dir was set back.
    drop(alone.note(&key("c"), 9).await.unwrap());
    let set_back = open(dir.path());
    set_back.compare(&belief(Phase::RedisStandby, 8)).await;
    assert!(set_back.figures().trouble.is_some());
}

#[tokio::test]
async fn a_newer_phase_that_finds_the_journal_first_does_not_heal_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let alone = open(dir.path());
    drop(alone.note(&key("a"), 3).await.unwrap());
    assert!(alone.note(&key("b"), 2).await.is_err(), "a straggler of an older phase");
    drop(alone.note(&key("b"), 4).await.unwrap());
    assert!(alone.figures().trouble.unwrap().contains("version 3"));
}

#[tokio::test]
async fn after_a_promise_nothing_is_written_alone() {
    let dir = tempfile::tempdir().unwrap();
    let alone = open(dir.path());
    let soon = || Instant::now() + Duration::from_millis(20);
    let under_way = alone.note(&key("a"), 3).await.unwrap();
    assert_eq!(alone.promise(3, soon()).await.unwrap_err(), 1);
    drop(under_way);
    let promise = alone.promise(3, soon()).await.unwrap();
    assert!(alone.note(&key("a"), 3).await.is_err());
    drop(promise);
    assert!(alone.note(&key("a"), 3).await.is_ok());
}

/// The folder is gone (as a full disk, or one that is read-only): nothing is durable, so nothing may be written.
#[tokio::test]
async fn what_cannot_be_noted_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    std::fs::create_dir(&path).unwrap();
    let alone = open(&path);
    std::fs::remove_dir(&path).unwrap();
    let Err(Unheard(why)) = alone.note(&key("a"), 3).await else { panic!("noted") };
    assert!(why.contains("the journal cannot be written"), "{why}");
    assert_eq!(alone.figures(), AloneFigures::default());
    std::fs::create_dir(&path).unwrap();
    assert!(alone.note(&key("a"), 3).await.is_ok(), "the disk is mended");
}
