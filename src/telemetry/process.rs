//! Figures of the process, under the names that Prometheus clients share, read from /proc when they are asked for.
//! What cannot be read is left out.

use std::{fmt::Write as _, fs};

/// Clock ticks a second in /proc: fixed at 100 by Linux's ABI on every platform that decant is built for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Appends the figures in the exposition format.
pub(super) fn render(text: &mut String) {
    let read = |path: &str| fs::read_to_string(path).ok();
    let memory = read("/proc/self/status").as_deref().and_then(resident_bytes);
    // One of the descriptors is the directory being read.
    let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count().saturating_sub(1) as f64);
    let started =
        read("/proc/self/stat").as_deref().and_then(start_ticks).zip(read("/proc/stat").as_deref().and_then(boot_time));
    let started = started.map(|(ticks, boot)| boot + ticks / TICKS_PER_SECOND);
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory of the process.", memory),
        ("process_open_fds", "Open file descriptors of the process.", open),
        ("process_start_time_seconds", "When the process started, in seconds since 1970.", started),
    ] {
        if let Some(value) = value {
            // Writing to a String does not fail.
            let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n\n");
        }
    }
}

/// `VmRSS:     1234 kB` of /proc/self/status.
fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<f64>().ok().map(|kib| kib * 1024.0)
}

/// The 22nd field of /proc/self/stat. The second is the program's name in parentheses, which may hold anything.
fn start_ticks(stat: &str) -> Option<f64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// `btime 1700000000` of /proc/stat.
fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_linux_writes_and_nothing_else() {
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t    2 kB\n"), Some(2048.0));
        assert_eq!(start_ticks("1 (a) b) S 1 1 1 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 777 0"), Some(777.0));
        assert_eq!(boot_time("cpu 1\nbtime 1700000000\n"), Some(1_700_000_000.0));
        for text in ["", "VmRSS:", "btime x", "1 (a", "1 (a) S"] {
            assert_eq!((resident_bytes(text), start_ticks(text), boot_time(text)), (None, None, None), "{text}");
        }
    }

    #[test]
    fn this_process_started_before_now_and_uses_memory() {
        let mut text = String::new();
        render(&mut text);
        let value = |name: &str| -> f64 {
            text.lines().find_map(|line| line.strip_prefix(&format!("{name} "))).unwrap().parse().unwrap()
        };
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!(value("process_start_time_seconds") <= now + 2.0 && value("process_start_time_seconds") > now - 3600.0);
        assert!(value("process_resident_memory_bytes") > 65_536.0 && value("process_open_fds") >= 1.0);
    }
}
