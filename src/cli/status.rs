//! `decant status`: phases, tiers and outbox on one screen.

use super::{
    Exit, Failure, Global, Output,
    client::{self, Client},
    text::{ago, count, length, plain, table},
};
use crate::{
    admin::views::{StashView, StatusView},
    phase::record::State,
    stash::{Neighbour, Reads, ShardFigures, mover::unix_ms},
};

/// A decant says every few seconds that it is there: who has not for so long may be gone.
const SILENT_MS: u64 = 15_000;

pub(super) fn run(global: &Global, output: &mut Output) -> Result<Exit, Failure> {
    let client = Client::new(global)?;
    let (document, status): (_, StatusView) = client::block_on(client.get("/v1/status"))?;
    if global.json {
        output.json(&document)?;
    } else {
        let text = render(&status, unix_ms(), &|style, text| output.styled(style, text));
        output.out(&text)?;
    }
    Ok(Exit::Done)
}

/// `styled(style, text)` colours the text where colour is wanted.
fn render(status: &StatusView, now_unix_ms: u64, styled: &dyn Fn(&str, &str) -> String) -> String {
    let ready = if status.ready { styled("32", "ready") } else { styled("31", "not ready") };
    let mut text = format!(
        "decant {}, {}, {ready}, up {}\n",
        plain(&status.version),
        plain(&status.member),
        length(status.uptime_s.saturating_mul(1000))
    );
    for stash in &status.stashes {
        text.push_str(&format!("\n{}\n", styled("1", &format!("stash {}", plain(&stash.name)))));
        text.push_str(&table(&rows(stash, now_unix_ms, styled), 2));
    }
    text
}

fn rows(stash: &StashView, now_unix_ms: u64, styled: &dyn Fn(&str, &str) -> String) -> Vec<(String, String)> {
    let figures = &stash.figures;
    let mut rows = phase_rows(stash, now_unix_ms, styled);
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    row("reads", reads(figures.reads));
    row("under way", format!("{} operations, {} keys pending", figures.in_flight, count(figures.keys_pending as u64)));
    if let Some(since) = &figures.alone.since {
        let keys = count(figures.alone.keys);
        row(
            "alone",
            match &figures.alone.trouble {
                None => {
                    styled("33", &format!("{keys} keys written to Kask alone since {} wait to be healed", plain(since)))
                }
                Some(trouble) => styled("31", &plain(trouble)),
            },
        );
    }
    for neighbour in &figures.neighbours {
        row("beside it", neighbour_text(neighbour, stash.record.as_ref().map(|record| record.version), styled));
    }
    if let "open" | "half-open" = figures.kask_breaker.as_str() {
        row(
            "kask",
            styled(
                "31",
                &format!("does not answer, and is not asked but for probes (breaker {})", figures.kask_breaker),
            ),
        );
    }
    for shard in &figures.shards {
        row(&format!("redis {}", plain(&shard.name)), shard_text(shard, figures.redis_in_use, styled));
        if figures.redis_in_use {
            row("  outbox", outbox_text(shard, styled));
        }
    }
    if figures.shards.is_empty() {
        row("redis", "none configured".to_owned());
    }
    row("replication", format!("{}, on tier failure: {}", figures.replication, figures.on_tier_failure));
    rows
}

fn phase_rows(stash: &StashView, now_unix_ms: u64, styled: &dyn Fn(&str, &str) -> String) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    let Some(record) = &stash.record else {
        let why = stash.why_unconfirmed.as_deref().unwrap_or("nothing is served until the shards' fences are read");
        row("phase", styled("31", &format!("not confirmed yet: {}", plain(why))));
        return rows;
    };
    let state = match record.state {
        State::Settled => "settled".to_owned(),
        State::Moving => styled("33", "moving"),
    };
    row("phase", format!("{} ({state}, version {})", styled("1", record.phase.name()), record.version));
    let forced = if record.forced { ", forced" } else { "" };
    let since = ago(record.since_unix_ms, now_unix_ms);
    row("since", format!("{since}, by {}{forced}: {}", plain(&record.by), plain(&record.reason)));
    let whose = match stash.own {
        true => "this decant".to_owned(),
        false => format!("{}; this decant serves, and can neither move nor write Kask alone", plain(&record.member)),
    };
    row("owner", whose);
    if let Some(since) = &record.kask_stale_since {
        row("kask", styled("33", &format!("writes have gone past it since {}", plain(since))));
    }
    if let Some(since) = &record.mirror_unclean_since {
        row("mirror", styled("33", &format!("writes have gone past Redis since {}", plain(since))));
    }
    rows
}

/// The fallback rate: the share of hits that Redis served.
fn reads(reads: Reads) -> String {
    let hits = reads.kask + reads.redis;
    let share = match hits {
        0 => "no hits yet".to_owned(),
        hits => format!("{:.1} % of hits from Redis", reads.redis as f64 * 100.0 / hits as f64),
    };
    format!("{} kask, {} redis, {} none ({share})", count(reads.kask), count(reads.redis), count(reads.none))
}

/// Without a shared record the fence names the one that moves; of the others one knows that they are there.
fn neighbour_text(neighbour: &Neighbour, version: Option<u64>, styled: &dyn Fn(&str, &str) -> String) -> String {
    let heard = format!("heard of {} ago", length(neighbour.heard_ms_ago));
    let heard = if neighbour.heard_ms_ago >= SILENT_MS { styled("33", &heard) } else { heard };
    let behind = match version {
        Some(version) if version != neighbour.version => styled("33", &format!(", at version {}", neighbour.version)),
        _ => String::new(),
    };
    let (member, store, decant) = (plain(&neighbour.member), plain(&neighbour.store), plain(&neighbour.decant));
    format!("{member}, decant {decant}, record in {store}, {heard}{behind}")
}

fn shard_text(shard: &ShardFigures, in_use: bool, styled: &dyn Fn(&str, &str) -> String) -> String {
    let state = match (in_use, shard.up) {
        (false, _) => "retired, no connection is held".to_owned(),
        (true, true) if matches!(shard.breaker.as_str(), "open" | "half-open") => {
            styled("31", "connected, but does not answer")
        }
        (true, true) => styled("32", "up"),
        (true, false) => {
            styled("31", &format!("down: {}", plain(shard.why_down.as_deref().unwrap_or("no connection"))))
        }
    };
    let fence = match (shard.fence_version, in_use) {
        (_, false) => String::new(),
        (Some(version), true) if shard.fence_differs => {
            styled("31", &format!(", fence {version}, which this decant does not follow: see its log"))
        }
        (Some(version), true) => format!(", fence {version}"),
        (None, true) => styled("33", ", no fence"),
    };
    format!("{} {state}{fence}", plain(&shard.address))
}

fn outbox_text(shard: &ShardFigures, styled: &dyn Fn(&str, &str) -> String) -> String {
    let (Some(to_kask), Some(to_redis)) = (shard.to_kask, shard.to_redis) else {
        return "not looked at yet".to_owned();
    };
    let mut text = format!("{} to Kask, {} to Redis", count(to_kask), count(to_redis));
    if let Some(oldest) = shard.oldest_ms {
        text.push_str(&format!(", oldest {}", length(oldest)));
    }
    if let Some(damaged) = shard.damaged.filter(|damaged| *damaged > 0) {
        text.push_str(&styled("31", &format!(", {} damaged", count(damaged))));
    }
    if let Some(seen) = shard.seen_ms_ago.filter(|seen| *seen >= 2_000) {
        text.push_str(&styled("33", &format!(" (last seen {} ago)", length(seen))));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(stash: &str) -> StatusView {
        let stash: serde_json::Value = serde_json::from_str(stash).unwrap();
        serde_json::from_value(serde_json::json!({
            "version": "0.1.0", "member": "m-1", "uptime_s": 90, "ready": true, "stashes": [stash]
        }))
        .unwrap()
    }

    const STASH: &str = r#"{"name":"echoseen","confirmed":true,"why_unconfirmed":null,"own":true,"phase":"kask-first",
        "version":3,"state":"moving","since":"x","since_unix_ms":1000,"by":"root","reason":"because","forced":true,
        "member":"m-1","kask_stale_since":null,"mirror_unclean_since":null,"replication":"sync","on_tier_failure":"heal",
        "shadow_share":0.0,"redis_in_use":true,"in_flight":2,"keys_pending":1234,"reads":{"kask":3,"redis":1,"none":9},
        "shards":[{"name":"main","address":"127.0.0.1:6379/0","up":true,"why_down":null,"fence_version":3,
        "fence_member":"m-1","to_kask":5,"to_redis":0,"damaged":1,"oldest_ms":2500,"seen_ms_ago":30}]}"#;

    #[test]
    fn one_screen() {
        insta::assert_snapshot!(render(&view(STASH), 61_000, &|_, text| text.to_owned()));
    }

    #[test]
    fn who_else_is_at_work_is_named() {
        let beside = |version: u64, ms: u64| {
            let told = format!(
                "\"neighbours\":[{{\"member\":\"m-2\",\"version\":{version},\"store\":\"file\",\"decant\":\"0.1.0\",\"heard_ms_ago\":{ms}}}],\"in_flight\":2"
            );
            render(&view(&STASH.replace("\"in_flight\":2", &told)), 61_000, &|style, text| {
                format!("<{style}>{text}</>")
            })
        };
        let text = beside(3, 2_000);
        assert!(text.contains("beside it    m-2, decant 0.1.0, record in file, heard of 2.0 s ago\n"), "{text}");
        let text = beside(2, 60_000);
        assert!(text.contains("<33>heard of 60 s ago</><33>, at version 2</>\n"), "{text}");
    }

    #[test]
    fn what_was_written_alone_is_said() {
        let alone = |told: &str| {
            let stash = STASH.replace("\"in_flight\":2", &format!("\"alone\":{told},\"in_flight\":2"));
            render(&view(&stash), 61_000, &|_, text| text.to_owned())
        };
        let waiting = r#"{"keys":1200,"since":"2026-01-01T00:00:00.000Z","overflowed":false,"trouble":null}"#;
        assert!(alone(waiting).contains("1,200 keys written to Kask alone since 2026-01-01"), "{}", alone(waiting));
        let damaged =
            r#"{"keys":0,"since":"2026-01-01T00:00:00.000Z","overflowed":false,"trouble":"damaged at byte 7"}"#;
        assert!(alone(damaged).contains("damaged at byte 7"), "{}", alone(damaged));
        let nothing = r#"{"keys":0,"since":null,"overflowed":false,"trouble":null}"#;
        assert!(!alone(nothing).contains("alone"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let down = STASH
            .replace("\"up\":true,\"why_down\":null", "\"up\":false,\"why_down\":\"refused\"")
            .replace("\"fence_version\":3", "\"fence_version\":null")
            .replace("\"seen_ms_ago\":30", "\"seen_ms_ago\":90000")
            .replace("\"mirror_unclean_since\":null", "\"mirror_unclean_since\":\"2026-01-01T00:00:00.000Z\"")
            .replace("\"own\":true", "\"own\":false");
        let other = STASH.replace("\"up\":true", "\"up\":true,\"fence_differs\":true");
        let told = render(&view(&other), 61_000, &|_, text| text.to_owned());
        assert!(told.contains("up, fence 3, which this decant does not follow"), "{told}");
        let hangs = STASH.replace("\"up\":true", "\"up\":true,\"breaker\":\"open\"");
        let hangs = hangs.replace("\"in_flight\":2", "\"kask_breaker\":\"half-open\",\"in_flight\":2");
        let told = render(&view(&hangs), 61_000, &|_, text| text.to_owned());
        assert!(told.contains("connected, but does not answer, fence 3"), "{told}");
        assert!(
            told.contains("kask         does not answer, and is not asked but for probes (breaker half-open)"),
            "{told}"
        );
        insta::assert_snapshot!(render(&view(&down), 61_000, &|_, text| text.to_owned()));
        let starting = r#"{"name":"echoseen","confirmed":false,"why_unconfirmed":"shard main: away","own":false,
            "replication":"sync","on_tier_failure":"heal","shadow_share":0.0,"redis_in_use":false,"in_flight":0,
            "keys_pending":0,"reads":{"kask":0,"redis":0,"none":0},"shards":[]}"#;
        insta::assert_snapshot!(render(&view(starting), 61_000, &|_, text| text.to_owned()));
    }
}
