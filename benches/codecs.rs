//! What crossing from one tier's bytes to the other's costs, per byte of what goes in.
//!
//!     cargo bench --bench codecs
//!     cargo bench --bench codecs -- session/json      one of them
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use decant::codec::{
    php,
    transcode::{Serialization, Transcoder},
    value::{ArrayBuilder, ArrayKey, Value},
};
use std::hint::black_box;

fn text(text: &str) -> Value {
    Value::Bytes(text.as_bytes().to_vec())
}

/// As MediaWiki's sessions are: short strings, numbers and nested arrays under string keys.
fn session(entries: usize) -> Value {
    let mut session = ArrayBuilder::new();
    for i in 0..entries {
        let mut user = ArrayBuilder::new();
        user.insert(ArrayKey::from_bytes(b"wsUserID".to_vec()), Value::Int(40_000_000 + i as i64));
        user.insert(ArrayKey::from_bytes(b"wsUserName".to_vec()), text("Zażółć gęślą \"jaźń\"/2"));
        user.insert(ArrayKey::from_bytes(b"remember".to_vec()), Value::Bool(true));
        user.insert(ArrayKey::from_bytes(b"expires".to_vec()), Value::Float(1_767_225_600.25));
        session.insert(ArrayKey::from_bytes(format!("wsToken:{i}").into_bytes()), user.finish());
    }
    session.finish()
}

/// Name, and what RedisBagOStuff writes for it.
fn values() -> [(&'static str, Vec<u8>); 4] {
    [
        ("echo-timestamp", php::encode(&text("20260101000000"))),
        ("int", b"42".to_vec()),
        ("session-2KB", php::encode(&session(14))),
        ("session-100KB", php::encode(&session(680))),
    ]
}

fn both_directions(c: &mut Criterion) {
    let codecs = [
        ("json", Transcoder::new(Serialization::Json, None)),
        ("json-hmac", Transcoder::new(Serialization::Json, Some(b"a key as long as a good one".to_vec()))),
        ("php", Transcoder::new(Serialization::Php, None)),
        ("php-hmac", Transcoder::new(Serialization::Php, Some(b"a key as long as a good one".to_vec()))),
    ];
    for (value, redis) in values() {
        let mut group = c.benchmark_group(value);
        for (codec, transcoder) in &codecs {
            let kask = transcoder.to_kask(&redis).expect("the value has a Kask body");
            assert_eq!(transcoder.to_redis(&kask), redis, "{value} {codec}: what is measured must be right");
            group.throughput(Throughput::Bytes(redis.len() as u64));
            group.bench_with_input(BenchmarkId::new(*codec, "to_kask"), &redis, |b, redis| {
                b.iter(|| transcoder.to_kask(black_box(redis)));
            });
            group.throughput(Throughput::Bytes(kask.len() as u64));
            group.bench_with_input(BenchmarkId::new(*codec, "to_redis"), &kask, |b, kask| {
                b.iter(|| transcoder.to_redis(black_box(kask)));
            });
        }
        group.finish();
    }
}

criterion_group!(benches, both_directions);
criterion_main!(benches);
