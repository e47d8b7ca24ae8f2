//! The interceptor with real bundles, a real log and real threads.
#![expect(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "a failed helper fails its test")]

mod deny;
mod overrun;
mod record;
mod swap;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use autonomy_policy::{BuildOptions, Bundle, EvalError, STACK_BYTES, build};
use autonomy_runtime::{Call, Interceptor, Log, Metrics, Parts, Policy, Redact, Standing};
use autonomy_schema::Time;
use autonomy_stateroot::{Disk, Query, RealDisk, StateRoot};
use serde_json::{Value, json};

/// A policy of one module, with data.
fn bundle(rego: &str, data: &Value) -> Bundle {
    let options = BuildOptions {
        name: "harbor".parse().unwrap(),
        version: "1.0.0".parse().unwrap(),
        required_runtime_version: None,
        created_at: Time::from_unix(1_795_165_200),
    };
    let files = BTreeMap::from([
        ("tool.rego".parse().unwrap(), rego.as_bytes().to_vec()),
        ("data.json".parse().unwrap(), data.to_string().into_bytes()),
    ]);
    Bundle::load(&build(&files, &options).unwrap()).unwrap()
}

/// Compiles where the stack is large enough.
fn compiled(rego: &str, data: &Value) -> Result<Policy, EvalError> {
    let bundle = bundle(rego, data);
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(move || Policy::new(&bundle));
    thread.expect("thread").join().expect("compiles")
}

fn policy(rego: &str) -> Policy {
    compiled(rego, &json!({})).expect("policy")
}

/// An interceptor on a disk, that knows `tool.echo` and `tool.shell`.
fn on(disk: impl Disk + Query + 'static) -> (Arc<Interceptor>, StateRoot, Arc<Metrics>) {
    let root = StateRoot::on(Arc::new(disk));
    let metrics = Arc::new(Metrics::default());
    let parts = Parts {
        log: Log::open(&root).expect("log"),
        redact: Redact::new(&["pin".to_owned()]),
        kinds: Box::new(|kind| matches!(kind, "tool.echo" | "tool.shell")),
        metrics: Arc::clone(&metrics),
    };
    (Interceptor::start(parts).expect("starts"), root, metrics)
}

/// The same in a folder that goes away with the test.
struct Place {
    interceptor: Arc<Interceptor>,
    root: StateRoot,
    metrics: Arc<Metrics>,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let (interceptor, root, metrics) = on(RealDisk::open(folder.path()).expect("opens"));
        Self { interceptor, root, metrics, _folder: folder }
    }

    fn serving(rego: &str) -> Self {
        let place = Self::new();
        place.interceptor.swap(Standing::Serving(policy(rego)));
        place
    }

    /// The records of decisions, in order.
    fn decisions(&self) -> Vec<autonomy_telemetry::record::Stored> {
        let mut found = Vec::new();
        autonomy_telemetry::wal::read(&self.root, &"runtime".parse().unwrap(), &mut |record| {
            if record.kind == "tool.decision" {
                found.push(record.clone());
            }
        })
        .expect("reads");
        found
    }
}

fn call(kind: &str, params: Value) -> Call {
    let Value::Object(params) = params else { panic!("parameters are an object") };
    Call { kind: kind.to_owned(), params }
}

fn codes(ruling: &autonomy_runtime::Ruling) -> Vec<&'static str> {
    ruling.reasons.iter().map(|reason| reason.code.as_str()).collect()
}
