//! Tells the binary which compiler made it, and from when its source is. Nothing here fails a build: without git or
//! outside a repository (a source archive), "unknown" stands instead. The names do not begin with DECANT_: cargo sets them for
//! `cargo test` and `cargo run` too, where decant would take them for configuration.

use std::{env, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=SOURCE_DATE_EPOCH");
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    // "rustc 1.95.0 (59807616e 2026-04-14)" -> "1.95.0"
    let version = output(&rustc, &["--version"]).and_then(|line| line.split(' ').nth(1).map(str::to_owned));
    println!("cargo:rustc-env=BUILD_RUSTC={}", version.as_deref().unwrap_or("unknown"));
    let epoch = env::var("SOURCE_DATE_EPOCH").ok().or_else(|| output("git", &["log", "-1", "--format=%ct"]));
    let date = epoch.and_then(|text| text.trim().parse().ok()).map(date_of);
    println!("cargo:rustc-env=BUILD_SOURCE_DATE={}", date.as_deref().unwrap_or("unknown"));
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// Seconds since 1970 as YYYY-MM-DD in UTC (Hinnant's civil_from_days).
fn date_of(epoch: u32) -> String {
    let days = epoch / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u32::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
