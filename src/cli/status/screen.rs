//! The screen: text out of what decant tells. Pure, but for the clock that comes with it.

use crate::{
    admin::views::{Level, NextView, StashView, StatusView},
    cli::{
        backfill::text::brief,
        fleet::of_member,
        text::{ago, count, guards, length, plain, table},
        verify,
    },
    phase::{Phase, record::State},
    stash::{
        Neighbour, ShardFigures,
        mover::MemberFigures,
        traffic::{Window, Windows},
    },
    verify::Brief,
};

const BOLD: &str = "1";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const RED: &str = "31";
const FAINT: &str = "2";

/// A decant says every few seconds that it is there: who has not for so long may be gone.
const SILENT_MS: u64 = 15_000;

type Rows = Vec<(String, String)>;

/// What a drawing needs besides what it shows.
pub(super) struct Screen<'a> {
    pub now_unix_ms: u64,
    /// `styled(style, text)` colours the text where colour is wanted.
    pub styled: &'a dyn Fn(&str, &str) -> String,
}

impl Screen<'_> {
    pub(super) fn draw(&self, status: &StatusView, next: &[Option<NextView>]) -> String {
        let ready = if status.ready { self.style(GREEN, "ready") } else { self.style(RED, "not ready") };
        let (version, member) = (plain(&status.version), plain(&status.member));
        let mut text =
            format!("decant {version}, {member}, {ready}, up {}\n", length(status.uptime_s.saturating_mul(1000)));
        for (index, stash) in status.stashes.iter().enumerate() {
            text.push_str(&format!("\n{}\n", self.style(BOLD, &format!("stash {}", plain(&stash.name)))));
            text.push_str(&self.line(stash));
            text.push_str(&table(&self.phase(stash), 2));
            text.push_str(&self.attention(stash));
            text.push_str(&self.reads(&stash.figures.traffic));
            text.push_str(&table(&self.rows(stash), 2));
            text.push_str(&self.next(next.get(index).and_then(Option::as_ref), stash));
        }
        text
    }

    fn style(&self, style: &str, text: &str) -> String {
        (self.styled)(style, text)
    }

    /// The phases, with the one in force marked.
    fn line(&self, stash: &StashView) -> String {
        let now = stash.record.as_ref().map(|record| record.phase);
        let phases: Vec<String> = Phase::ALL
            .into_iter()
            .map(|phase| match now == Some(phase) {
                true => self.style(BOLD, &format!("[{phase}]")),
                false => phase.to_string(),
            })
            .collect();
        format!("  {}\n\n", phases.join(&self.style(FAINT, " > ")))
    }

    fn phase(&self, stash: &StashView) -> Rows {
        let mut rows = Rows::new();
        let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
        let Some(record) = &stash.record else {
            row("phase", self.style(RED, "not confirmed yet"));
            return rows;
        };
        let state = match record.state {
            State::Settled => "settled".to_owned(),
            State::Moving => self.style(YELLOW, "moving"),
        };
        row("phase", format!("{} ({state}, version {})", self.style(BOLD, record.phase.name()), record.version));
        if let Some(ahead) = &record.ahead {
            row("ahead", plain(&format!("{} in {}", ahead.text, ahead.phase)));
        }
        let forced = if record.forced { self.style(YELLOW, ", forced") } else { String::new() };
        let since = ago(record.since_unix_ms, self.now_unix_ms);
        row("since", format!("{since}, by {}{forced}: {}", plain(&record.by), plain(&record.reason)));
        row(
            "owner",
            match stash.own {
                true => "this decant".to_owned(),
                false => {
                    format!("{}; this decant serves, and can neither move nor write Kask alone", plain(&record.member))
                }
            },
        );
        let left: Vec<&str> = Phase::ALL.into_iter().filter(|phase| *phase > record.phase).map(Phase::name).collect();
        row(
            "left",
            match left.len() {
                0 => "nothing: Redis can go".to_owned(),
                1 => format!("1 step until Redis can go: {}", left[0]),
                steps => format!("{steps} steps until Redis can go: {}", left.join(", ")),
            },
        );
        rows
    }

    fn attention(&self, stash: &StashView) -> String {
        if stash.attention.is_empty() {
            return format!("\n  {}\n", self.style(GREEN, "nothing needs attention"));
        }
        let mut text = String::from("\n");
        for one in &stash.attention {
            let (style, word) = match one.level {
                Level::Bad => (RED, "BAD   "),
                Level::Warn => (YELLOW, "LOOK  "),
            };
            text.push_str(&format!(
                "  {}{}\n        {}\n",
                self.style(style, word),
                plain(&one.what),
                plain(&one.todo)
            ));
        }
        text
    }

    /// Reads by serving tier over the three windows.
    fn reads(&self, windows: &Windows) -> String {
        let mut text = format!(
            "\n  {:<20}{:>14}{:>14}{:>14}{:>14}  {}\n",
            "reads answered by", "Kask", "Redis", "neither", "fell back", "errors of Kask"
        );
        let whole =
            [("now", &windows.minute, 60_000), ("hour", &windows.hour, 3_600_000), ("day", &windows.day, 86_400_000)];
        for (name, window, ms) in whole {
            let name = match window.over_ms < ms {
                true => format!("{name} ({})", length(window.over_ms)),
                false => name.to_owned(),
            };
            text.push_str(&format!("    {name:<18}{}\n", self.window(window)));
        }
        text.push('\n');
        text
    }

    fn window(&self, window: &Window) -> String {
        let counts = &window.counts;
        let all = counts.kask + counts.redis + counts.none;
        let cell = |part: u64| format!("{:>14}", format!("{} {:>5}", count(part), share(part, all)));
        let errors = format!("{} of {}", count(counts.kask_errors), count(counts.kask_requests));
        let errors = if counts.kask_errors > 0 { self.style(YELLOW, &errors) } else { errors };
        format!(
            "{}{}{}{:>14}  {errors}",
            cell(counts.kask),
            cell(counts.redis),
            cell(counts.none),
            count(counts.fallbacks)
        )
    }

    fn rows(&self, stash: &StashView) -> Rows {
        let figures = &stash.figures;
        let mut rows = Rows::new();
        let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
        row(
            "kask",
            match (figures.kask_up, is_open(&figures.kask_breaker)) {
                (true, _) => self.style(GREEN, "up"),
                (false, false) => self.style(RED, "does not answer"),
                (false, true) => self.style(RED, "does not answer, and is not asked but for probes"),
            },
        );
        for shard in &figures.shards {
            row(&format!("redis {}", plain(&shard.name)), self.shard(shard, figures.redis_in_use));
            if figures.redis_in_use {
                row("  outbox", self.outbox(shard));
            }
        }
        if figures.shards.is_empty() {
            row("redis", "none configured".to_owned());
        }
        if let Some(run) = &stash.backfill {
            row("backfill", brief(run, self.now_unix_ms));
        }
        if let Some(text) = self.verify(&stash.verify) {
            row("verify", text);
        }
        let in_etcd = stash.fleet.store == "etcd";
        for member in stash.fleet.members.iter().filter(|_| in_etcd) {
            row("member", self.member(member));
        }
        let registered = |name: &str| in_etcd && stash.fleet.members.iter().any(|member| member.name == name);
        for neighbour in figures.neighbours.iter().filter(|neighbour| !registered(&neighbour.member)) {
            row("beside it", self.neighbour(neighbour, stash.record.as_ref().map(|record| record.version)));
        }
        let pending = count(figures.keys_pending as u64);
        row("under way", format!("{} operations, {pending} keys pending", figures.in_flight));
        row("replication", format!("{}, on tier failure: {}", figures.replication, figures.on_tier_failure));
        rows
    }

    /// Of a fleet; who holds moves up stands out.
    fn member(&self, member: &MemberFigures) -> String {
        let text = format!("{}, {}", plain(&member.name), of_member(member, self.now_unix_ms));
        if member.standing == "follows" { text } else { self.style(RED, &text) }
    }

    /// Without a shared record the fence names the one that moves; of the others one knows that they are there.
    fn neighbour(&self, neighbour: &Neighbour, version: Option<u64>) -> String {
        let heard = format!("heard of {} ago", length(neighbour.heard_ms_ago));
        let heard = if neighbour.heard_ms_ago >= SILENT_MS { self.style(YELLOW, &heard) } else { heard };
        let behind = match version {
            Some(version) if version != neighbour.version => {
                self.style(YELLOW, &format!(", at version {}", neighbour.version))
            }
            _ => String::new(),
        };
        let (member, store, decant) = (plain(&neighbour.member), plain(&neighbour.store), plain(&neighbour.decant));
        format!("{member}, decant {decant}, record in {store}, {heard}{behind}")
    }

    fn shard(&self, shard: &ShardFigures, in_use: bool) -> String {
        let address = plain(&shard.address);
        if !in_use {
            return format!("{address} retired, no connection is held");
        }
        let state = match shard.up {
            true if is_open(&shard.breaker) => self.style(RED, "connected, but does not answer"),
            true => self.style(GREEN, "up"),
            false => self.style(RED, &format!("down: {}", plain(shard.why_down.as_deref().unwrap_or("no connection")))),
        };
        let fence = match shard.fence_version {
            Some(version) if shard.fence_differs => self.style(RED, &format!(", fence {version}, not followed")),
            Some(version) => format!(", fence {version}"),
            None => self.style(YELLOW, ", no fence"),
        };
        format!("{address} {state}{fence}")
    }

    fn outbox(&self, shard: &ShardFigures) -> String {
        let (Some(to_kask), Some(to_redis)) = (shard.to_kask, shard.to_redis) else {
            return "not looked at yet".to_owned();
        };
        let mut text = format!("{} to Kask, {} to Redis", count(to_kask), count(to_redis));
        if let Some(oldest) = shard.oldest_ms {
            text.push_str(&format!(", oldest {}", length(oldest)));
        }
        match shard.damaged {
            Some(damaged) if damaged > 0 => text.push_str(&self.style(RED, &format!(", {} damaged", count(damaged)))),
            _ => text.push_str(", 0 damaged"),
        }
        if let Some(seen) = shard.seen_ms_ago.filter(|seen| *seen >= 2_000) {
            text.push_str(&self.style(YELLOW, &format!(" (last seen {} ago)", length(seen))));
        }
        text
    }

    /// The run under way, or what the last one came to.
    fn verify(&self, verify: &Brief) -> Option<String> {
        if let Some(progress) = &verify.running {
            return Some(verify::progress_line(progress));
        }
        let last = verify.last.as_ref()?;
        let style = if last.arrived { GREEN } else { YELLOW };
        Some(format!("{}: {}", ago(last.ended_unix_ms, self.now_unix_ms), self.style(style, &plain(&last.summary))))
    }

    /// The step forward, with its guards.
    fn next(&self, next: Option<&NextView>, stash: &StashView) -> String {
        let Some(next) = next else {
            let why = if stash.record.is_some() {
                "its guards are being measured"
            } else {
                "none until the phase is confirmed"
            };
            return format!("\n  next step: {why}\n");
        };
        let Some(to) = next.to else { return "\n  next step: none, this is the last phase\n".to_owned() };
        if let Some(why) = &next.refused {
            return format!("\n  next step: {to} {}\n        {}\n", self.style(YELLOW, "cannot be tried"), plain(why));
        }
        let failing = next.guards.iter().filter(|guard| !guard.ok).count();
        let verdict = match failing {
            0 => self.style(GREEN, "all guards pass"),
            _ => self.style(RED, &format!("{failing} of {} guards fail", next.guards.len())),
        };
        let measured = self.style(FAINT, &format!("(measured {} ago)", length(next.measured_ms_ago)));
        format!("\n  next step: {to}, {verdict} {measured}\n{}", guards(&next.guards, 2, self.styled))
    }
}

/// A circuit breaker that lets only probes through.
fn is_open(breaker: &str) -> bool {
    matches!(breaker, "open" | "half-open")
}

/// `12%`; never `0%` for what is not nothing, nor `100%` for what is not all.
fn share(part: u64, all: u64) -> String {
    match (part, all) {
        (_, 0) => "-".to_owned(),
        (0, _) => "0%".to_owned(),
        (part, all) if part == all => "100%".to_owned(),
        (part, all) => match part as f64 * 100.0 / all as f64 {
            low if low < 1.0 => "<1%".to_owned(),
            high if high > 99.0 => ">99%".to_owned(),
            share => format!("{share:.0}%"),
        },
    }
}

#[cfg(test)]
mod tests;
