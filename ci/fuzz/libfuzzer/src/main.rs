//! libFuzzer's end of the fuzz targets: one binary, the target is named by `AUTONOMY_FUZZ_TARGET`.
#![no_main]

use std::sync::OnceLock;

use autonomy_fuzz::Target;
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<Option<Target>> = OnceLock::new();

/// The target that the environment names.
fn chosen() -> Option<Target> {
    let name = std::env::var("AUTONOMY_FUZZ_TARGET").ok()?;
    autonomy_fuzz::find(&name)
}

fuzz_target!(|data: &[u8]| {
    let target = TARGET.get_or_init(chosen);
    (target.as_ref().expect("AUTONOMY_FUZZ_TARGET names a target").run)(data);
});
