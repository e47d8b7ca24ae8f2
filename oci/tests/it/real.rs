//! Against Debian's docker-registry.

use std::io::{Cursor, Read};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use autonomy_oci::spec::{Descriptor, EMPTY_TYPE, MANIFEST_TYPE, Manifest};
use autonomy_oci::{FILE_TYPE, Reference, Registry, RegistryError, RegistryOptions, SET_TYPE};
use autonomy_schema::{Code, Sha256, oci::EMPTY_CONFIG};

struct Server {
    folder: tempfile::TempDir,
    port: u16,
    child: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn run(folder: &Path, program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(folder).output().expect(program);
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Server {
    /// `http` goes below `http:`, `more` to the end of the configuration.
    fn start(http: &str, more: &str, prepare: impl Fn(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        prepare(folder.path());
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}/data}}}}\n\
             http:\n  addr: 127.0.0.1:{port}\n{http}\n{more}\n",
            folder.path().display()
        );
        std::fs::write(folder.path().join("c.yml"), config).expect("write");
        let child = Command::new("docker-registry")
            .args(["serve", "c.yml"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry starts");
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(since.elapsed() < Duration::from_secs(30), "no registry");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { folder, port, child }
    }

    fn registry(&self, options: RegistryOptions) -> Registry {
        let reference: Reference = format!("oci://127.0.0.1:{}/fleet/edge:1", self.port).parse().expect("reads");
        Registry::connect(&reference, options).expect("connects")
    }
}

fn options() -> RegistryOptions {
    RegistryOptions { docker_config: Some(PathBuf::from("/nonexistent/config.json")), ..RegistryOptions::default() }
}

fn push(registry: &Registry, bytes: &[u8]) -> Descriptor {
    let blob = Descriptor::of(FILE_TYPE, bytes);
    let open = |at: u64| {
        let rest = bytes[usize::try_from(at).expect("small")..].to_vec();
        Ok(Box::new(Cursor::new(rest)) as Box<dyn Read>)
    };
    registry.push_blob(&blob, &open, &|_| ()).expect("pushes");
    blob
}

fn set(registry: &Registry, bytes: &[u8]) -> (Descriptor, Vec<u8>) {
    push(registry, EMPTY_CONFIG);
    let layer = push(registry, bytes).with(autonomy_oci::spec::TITLE, "file");
    let manifest = Manifest::artifact(SET_TYPE, vec![layer]).to_bytes().expect("bytes");
    registry.push_manifest(MANIFEST_TYPE, &manifest, "1").expect("pushes");
    (Descriptor::of(MANIFEST_TYPE, &manifest), manifest)
}

#[test]
fn what_was_pushed_is_pulled_and_skopeo_reads_it() {
    let server = Server::start("", "", |_| ());
    let registry = server.registry(options());
    let bytes: Vec<u8> = (0..20_u32 << 18).flat_map(u32::to_le_bytes).collect();
    let (described, manifest) = set(&registry, &bytes);
    assert_eq!(registry.resolve().expect("resolves"), described);
    assert_eq!(registry.manifest(&described.digest.to_string()).expect("pulls").1, manifest);
    let blob = Descriptor::of(FILE_TYPE, &bytes);
    assert!(registry.blob_exists(blob.digest).expect("answers"));
    // From nothing, from a good half, from a bad half, from too much.
    let into = server.folder.path().join("blob");
    let mut long = bytes.clone();
    long.push(0);
    for start in [&[][..], &bytes[..5_000_000], &[7; 4096], &long] {
        std::fs::write(&into, start).expect("write");
        registry.pull_blob(&blob, &into, &|_| ()).expect("pulls");
        assert!(std::fs::read(&into).expect("reads") == bytes, "from {}", start.len());
    }
    let place = format!("docker://127.0.0.1:{}/fleet/edge:1", server.port);
    let seen = run(server.folder.path(), "skopeo", &["inspect", "--raw", "--tls-verify=false", &place]);
    assert_eq!(seen.as_bytes(), manifest);
    let error = registry.manifest("absent").expect_err("absent");
    assert_eq!(error.to_reason().code, Code::SourceNotFound, "{error}");
    let probe = registry.probe().expect("probes");
    assert_eq!((probe.api_version.as_deref(), probe.auth), (Some("registry/2.0"), None));
}

#[test]
fn a_private_authority_is_trusted_when_named() {
    let tls = "  tls: {certificate: server.pem, key: server.key}";
    let server = Server::start(tls, "", |dir| {
        let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];
        let ca = ["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-addext"];
        run(dir, "openssl", &[&new[..], &ca, &["keyUsage=keyCertSign"]].concat());
        let leaf =
            ["-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", "server.key", "-out", "server.pem", "-subj", "/CN=s"];
        let names = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE"];
        run(dir, "openssl", &[&new[..], &leaf, &names].concat());
    });
    let ca_file = Some(server.folder.path().join("ca.pem"));
    set(&server.registry(RegistryOptions { ca_file, ..options() }), b"x");
    let error = server.registry(RegistryOptions { tls: true, ..options() }).resolve().expect_err("not trusted");
    assert!(matches!(error, RegistryError::Tls { .. }), "{error}");
}

#[test]
fn a_password_comes_from_the_config_or_a_helper() {
    let server = Server::start("", "auth: {htpasswd: {realm: fleet, path: users}}", |dir| {
        let line = run(dir, "htpasswd", &["-Bbn", "ops", "p:w"]);
        std::fs::write(dir.join("users"), line).expect("write");
    });
    let (dir, host) = (server.folder.path(), format!("127.0.0.1:{}", server.port));
    let config = |name: &str, text: String| {
        std::fs::write(dir.join(name), text).expect("write");
        std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o600)).expect("chmod");
        RegistryOptions { docker_config: Some(dir.join(name)), helpers: Some(dir.to_path_buf()), ..options() }
    };
    set(&server.registry(config("a", format!(r#"{{"auths":{{"{host}":{{"auth":"b3BzOnA6dw=="}}}}}}"#))), b"x");
    let helper = dir.join("docker-credential-mine");
    std::fs::write(&helper, "#!/bin/sh\ncat >/dev/null\necho '{\"Username\":\"ops\",\"Secret\":\"p:w\"}'\n")
        .expect("write");
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let asked = config("b", format!(r#"{{"credHelpers":{{"{host}":"mine"}}}}"#));
    server.registry(asked).resolve().expect("resolves");
    let wrong = config("c", format!(r#"{{"auths":{{"{host}":{{"auth":"b3BzOndyb25n"}}}}}}"#));
    let error = server.registry(wrong).resolve().expect_err("refused");
    assert!(matches!(error, RegistryError::Refused { status: 401, .. }), "{error}");
    assert!(error.to_string().contains("`ops`") && !error.to_string().contains("wrong"), "{error}");
    let error = server.registry(options()).resolve().expect_err("refused");
    assert!(error.to_string().contains("no credentials"), "{error}");
}

#[test]
fn two_attach_at_once_and_both_are_listed() {
    let server = Server::start("", "", |_| ());
    let (subject, _) = set(&server.registry(options()), b"x");
    push(&server.registry(options()), EMPTY_CONFIG);
    let attach = |name: &str| {
        let mut manifest = Manifest::artifact("application/x.test", vec![Descriptor::of(EMPTY_TYPE, EMPTY_CONFIG)]);
        manifest.subject = Some(subject.clone());
        manifest.annotations.insert("name".to_owned(), name.to_owned());
        server.registry(options()).attach(&[manifest.to_bytes().expect("bytes")]).expect("attaches").swap_remove(0)
    };
    let mut wanted = std::thread::scope(|scope| {
        let both = [scope.spawn(|| attach("a")), scope.spawn(|| attach("b"))];
        both.map(|one| one.join().expect("ends").digest)
    });
    let registry = server.registry(options());
    let listed = registry.referrers(subject.digest, Some("application/x.test")).expect("lists");
    let mut found: Vec<Sha256> = listed.iter().map(|it| it.digest).collect();
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
    assert!(registry.referrers(subject.digest, Some("other")).expect("lists").is_empty());
    assert!(registry.referrers(Sha256::of(b"none"), None).expect("lists").is_empty());
}
