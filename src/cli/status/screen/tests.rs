use super::*;

fn view(stash: &str) -> StatusView {
    let stash: serde_json::Value = serde_json::from_str(stash).unwrap();
    serde_json::from_value(serde_json::json!({
        "version": "0.1.0", "member": "m-1", "uptime_s": 90, "ready": true, "stashes": [stash]
    }))
    .unwrap()
}

fn next(next: serde_json::Value) -> Option<NextView> {
    let mut whole = serde_json::json!({
        "stash": "echoseen", "from": "kask-first", "to": "redis-standby", "guards": [], "refused": null, "measured_ms_ago": 3000
    });
    whole.as_object_mut().unwrap().extend(next.as_object().unwrap().clone());
    Some(serde_json::from_value(whole).unwrap())
}

/// Without colour.
fn draw(stash: &str, next: Option<NextView>) -> String {
    Screen { now_unix_ms: 61_000, styled: &|_, text| text.to_owned() }.draw(&view(stash), &[next])
}

const STASH: &str = r#"{"name":"echoseen","confirmed":true,"why_unconfirmed":null,"own":true,"phase":"kask-first",
    "version":3,"state":"moving","since":"x","since_unix_ms":1000,"by":"root","reason":"because","forced":true,
    "member":"m-1","kask_stale_since":null,"mirror_unclean_since":null,"replication":"sync","on_tier_failure":"heal",
    "shadow_share":0.0,"kask_up":true,"redis_in_use":true,"in_flight":2,"keys_pending":1234,"reads":{"kask":3,"redis":1,"none":9},
    "traffic":{
        "minute":{"over_ms":61000,"kask":1200,"redis":3,"none":40,"fallbacks":2,"kask_requests":1300,"kask_errors":0,"compared":0,"differing":0},
        "hour":{"over_ms":3600000,"kask":70000,"redis":30000,"none":0,"fallbacks":29000,"kask_requests":130000,"kask_errors":12,"compared":0,"differing":0},
        "day":{"over_ms":7200000,"kask":0,"redis":0,"none":0,"fallbacks":0,"kask_requests":0,"kask_errors":0,"compared":0,"differing":0}},
    "attention":[{"level":"bad","what":"1 copies were given up on","todo":"decant outbox damaged"}],
    "shards":[{"name":"main","address":"127.0.0.1:6379/0","up":true,"why_down":null,"fence_version":3,
    "fence_member":"m-1","to_kask":5,"to_redis":0,"damaged":1,"oldest_ms":2500,"seen_ms_ago":30}]}"#;

#[test]
fn one_screen() {
    let guards = serde_json::json!({ "guards": [
        { "name": "redis_answers", "ok": true, "figure": "every shard answers", "needs": "every shard answers" },
        { "name": "nothing_damaged", "ok": false, "figure": "1 damaged intents", "needs": "none: its tiers differ for good" }
    ] });
    insta::assert_snapshot!(draw(STASH, next(guards)));
}

#[test]
fn what_is_wrong_is_said() {
    let down = STASH
        .replace("\"up\":true,\"why_down\":null", "\"up\":false,\"why_down\":\"refused\"")
        .replace("\"fence_version\":3", "\"fence_version\":null")
        .replace("\"seen_ms_ago\":30", "\"seen_ms_ago\":90000")
        .replace("\"kask_up\":true", "\"kask_up\":false")
        .replace("\"own\":true", "\"own\":false");
    let refused = serde_json::json!({ "refused": "the move to kask-first by root has not settled yet" });
    insta::assert_snapshot!(draw(&down, next(refused)));
    let hangs = STASH
        .replace("\"up\":true", "\"up\":true,\"breaker\":\"open\"")
        .replace("\"kask_up\":true", "\"kask_up\":false,\"kask_breaker\":\"half-open\"");
    let told = draw(&hangs, None);
    assert!(told.contains("connected, but does not answer") && told.contains("not asked but for probes"), "{told}");
    let other = STASH.replace("\"up\":true", "\"up\":true,\"fence_differs\":true");
    assert!(draw(&other, None).contains("up, fence 3, not followed"), "{}", draw(&other, None));
}

#[test]
fn who_else_is_at_work_is_named() {
    let beside = |version: u64, ms: u64| {
        let told = format!(
            "\"neighbours\":[{{\"member\":\"m-2\",\"version\":{version},\"store\":\"file\",\"decant\":\"0.1.0\",\"heard_ms_ago\":{ms}}}],\"in_flight\":2"
        );
        let status = view(&STASH.replace("\"in_flight\":2", &told));
        Screen { now_unix_ms: 61_000, styled: &|style, text| format!("<{style}>{text}</>") }.draw(&status, &[None])
    };
    let text = beside(3, 2_000);
    assert!(text.contains("beside it    m-2, decant 0.1.0, record in file, heard of 2.0 s ago\n"), "{text}");
    let text = beside(2, 60_000);
    assert!(text.contains("<33>heard of 60 s ago</><33>, at version 2</>\n"), "{text}");
}

#[test]
fn the_members_of_a_fleet_are_told_each_with_its_standing() {
    let told = r#""fleet":{"store":"etcd","trouble":null,"proposal":null,"members":[
        {"name":"m-1","standing":"follows","version":3,"phase":"kask-first","decant":"0.1.0","said_unix_ms":58000,"here":true,"named":true},
        {"name":"m-2","standing":"silent","version":2,"phase":null,"decant":"0.1.0","silent_since_unix_ms":31000},
        {"name":"m-3","standing":"follows","version":3,"phase":"kask-first","decant":"0.1.0","said_unix_ms":60000,"shards_away":["main"]}]},
        "neighbours":[{"member":"m-2","version":2,"store":"etcd","decant":"0.1.0","heard_ms_ago":30000},
        {"member":"odd","version":3,"store":"file","decant":"0.1.0","heard_ms_ago":1000}],"in_flight":2"#;
    let status = view(&STASH.replace("\"in_flight\":2", told));
    let text =
        Screen { now_unix_ms: 61_000, styled: &|style, text| format!("<{style}>{text}</>") }.draw(&status, &[None]);
    let expected = "  member       m-1, follows, version 3 (kask-first), decant 0.1.0, said so 3.0 s ago, the fence names it, this one\n  \
                    member       <31>m-2, silent, version 2, decant 0.1.0, silent since 30 s ago</>\n  \
                    member       m-3, follows, version 3 (kask-first), decant 0.1.0, said so 1.0 s ago, Redis main is away for it\n  \
                    beside it    odd, decant 0.1.0, record in file, heard of 1.0 s ago\n";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_stash_that_is_not_confirmed_has_no_phase_and_no_next_step() {
    let starting = r#"{"name":"echoseen","confirmed":false,"why_unconfirmed":"shard main: away","own":false,
        "replication":"sync","on_tier_failure":"heal","shadow_share":0.0,"redis_in_use":false,"in_flight":0,
        "keys_pending":0,"reads":{"kask":0,"redis":0,"none":0},"shards":[]}"#;
    let text = draw(starting, None);
    assert!(
        text.contains("phase  not confirmed yet\n") && text.contains("next step: none until the phase is confirmed"),
        "{text}"
    );
}

#[test]
fn the_ends_of_a_step_are_told() {
    assert!(draw(STASH, None).ends_with("next step: its guards are being measured\n"));
    let passes = serde_json::json!({ "guards": [{ "name": "a", "ok": true, "figure": "f", "needs": "n" }] });
    assert!(
        draw(STASH, next(passes))
            .contains("next step: redis-standby, all guards pass (measured 3.0 s ago)\n  ok    a  f\n")
    );
    let last = draw(&STASH.replace("\"kask-first\"", "\"kask-only\""), next(serde_json::json!({ "to": null })));
    assert!(
        last.contains("left   nothing: Redis can go\n") && last.ends_with("next step: none, this is the last phase\n"),
        "{last}"
    );
}

#[test]
fn shares_are_never_rounded_to_nothing_or_all() {
    let shares = [(0, 0), (0, 9), (9, 9), (1, 1000), (999, 1000), (1, 2)].map(|(part, all)| share(part, all));
    assert_eq!(shares, ["-", "0%", "100%", "<1%", ">99%", "50%"]);
}

/// What others wrote cannot steer a terminal.
#[test]
fn control_characters_are_not_shown() {
    let text = draw(&STASH.replace("because", "\\u001b[31mred"), None);
    assert!(text.contains("\u{fffd}[31mred") && !text.contains('\x1b'), "{text}");
}
