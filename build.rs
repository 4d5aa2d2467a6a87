//! Tells the program which compiler built it. Date and host are told only where the builder sets `DECANT_BUILD_DATE` and
//! `DECANT_BUILD_HOST`, so that the same source gives the same program.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for told in ["DECANT_BUILD_DATE", "DECANT_BUILD_HOST"] {
        println!("cargo::rerun-if-env-changed={told}");
    }
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().ok().filter(|output| output.status.success());
    if let Some(version) = version.and_then(|output| String::from_utf8(output.stdout).ok()) {
        println!("cargo::rustc-env=DECANT_RUSTC={}", version.trim());
    }
}
