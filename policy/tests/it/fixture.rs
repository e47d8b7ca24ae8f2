//! Bundles from text.

use std::collections::BTreeMap;

use autonomy_policy::{BuildOptions, Bundle, build};
use autonomy_schema::{RelPath, Time};

pub(crate) const UPDATE: &str = "package autonomy.update\n\ndefault allow := false\n\n";

pub(crate) fn options() -> BuildOptions {
    BuildOptions {
        name: "harbor".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        required_runtime_version: None,
        created_at: Time::from_unix(1_795_165_200),
    }
}

pub(crate) fn files(entries: &[(&str, &str)]) -> BTreeMap<RelPath, Vec<u8>> {
    entries.iter().map(|(path, text)| (path.parse().unwrap(), text.as_bytes().to_vec())).collect()
}

/// A bundle of one module.
pub(crate) fn bundle(rego: &str) -> Bundle {
    Bundle::load(&build(&files(&[("update.rego", rego)]), &options()).unwrap()).unwrap()
}
