//! The drill: the operating system below a state root is replaced, the power is cut while it is rebuilt, and the agent runs
//! again under its old policy.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long the drill may take (issue 7).
const LIMIT: Duration = Duration::from_secs(60);

/// A program of this build, beside ours.
fn beside(program: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_autonomy")).with_file_name(program)
}

#[test]
fn the_drill_of_a_replaced_operating_system() {
    if std::env::var_os("AUTONOMY_SKIP_MOUNT").is_some() {
        println!("NOT RUN: AUTONOMY_SKIP_MOUNT is set");
        return;
    }
    let started = Instant::now();
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/04-os-replacement/run"))
        .env("AUTONOMY", env!("CARGO_BIN_EXE_autonomy"))
        .env("EDGED", beside("edged"))
        .env_remove("OS_TREES")
        .output()
        .expect("runs");
    let took = started.elapsed();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let places: Vec<Option<usize>> = [
        "Debian GNU/Linux 12 (bookworm), kernel 6.1.0-57-amd64; the state root is on its own ext2/ext3",
        "boot epoch        1\n",
        "agent: berth=7 on Debian GNU/Linux 12 (bookworm), policy sha256:",
        "Debian GNU/Linux 13 (trixie), kernel 6.12.117-amd64; the state root is on its own ext2/ext3",
        "  ~ kernel: 6.1.0-57-amd64 -> 6.12.117-amd64\n",
        "  ~ versionId: 12 -> 13\n",
        "would rebuild:\n",
        "renameat: started again, it came to its end, boot epoch 2\n",
        "\nrebuilt:\n",
        "after   agent: berth=7 on Debian GNU/Linux 13 (trixie), policy sha256:",
        "  ~ kernel: 6.12.117-amd64 -> 6.12.118-amd64\n",
        "boot epoch 3, and each step from one system to the next is signed.",
    ]
    .map(|text| told.find(text))
    .into();
    assert!(places.is_sorted() && places.iter().all(Option::is_some), "{places:?} in\n{told}");
    // It was cut at work, and not only before and after it.
    let cuts = told.lines().find_map(|line| line.strip_prefix("cut ")?.split(' ').next()?.parse::<u32>().ok());
    assert!(cuts.is_some_and(|cuts| cuts >= 15), "{cuts:?} in\n{told}");
    assert!(took < LIMIT, "it took {took:?}\n{told}");
}
