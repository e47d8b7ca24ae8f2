//! Debian's docker-registry on loopback, for the tests that need one: plain, with TLS, with passwords.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::node::Site;

/// A registry that runs as long as this lives. What it stores lies in the site, below `registry-<port>`.
pub(crate) struct Registry {
    child: Child,
    pub(crate) port: u16,
    pub(crate) folder: PathBuf,
}

/// How a registry is set up.
#[derive(Default)]
pub(crate) struct Setup {
    /// Certificates `server.pem` and `server.key` of the site are used.
    pub(crate) tls: bool,
    /// `ops` with the password `p:w` alone gets in.
    pub(crate) passwords: bool,
}

impl Registry {
    /// A plain one.
    pub(crate) fn start(site: &Site) -> Self {
        Self::start_with(site, &Setup::default())
    }

    pub(crate) fn start_with(site: &Site, setup: &Setup) -> Self {
        for _ in 0..10 {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
            let folder = site.world.path(&format!("registry-{port}"));
            std::fs::create_dir_all(&folder).expect("folder");
            if let Some(registry) = Self::serve(site, setup, port, folder) {
                return registry;
            }
        }
        panic!("no registry came up");
    }

    fn serve(site: &Site, setup: &Setup, port: u16, folder: PathBuf) -> Option<Self> {
        let data = folder.join("data");
        let tls = if setup.tls {
            let (certificate, key) = (site.world.path("server.pem"), site.world.path("server.key"));
            format!("  tls: {{certificate: {}, key: {}}}\n", certificate.display(), key.display())
        } else {
            String::new()
        };
        let auth = if setup.passwords {
            let users = folder.join("users");
            std::fs::write(&users, run(&folder, "htpasswd", &["-Bbn", "ops", "p:w"])).expect("writes");
            format!("auth: {{htpasswd: {{realm: fleet, path: {}}}}}\n", users.display())
        } else {
            String::new()
        };
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: 127.0.0.1:{port}\n{tls}{auth}",
            data.display()
        );
        let file = folder.join("config.yml");
        std::fs::write(&file, config).expect("writes");
        let mut child = Command::new("docker-registry");
        child.arg("serve").arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut registry = Self { child: child.spawn().expect("docker-registry"), port, folder };
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(30) && registry.child.try_wait().expect("waits").is_none() {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(registry);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// `oci://127.0.0.1:PORT/fleet/harbor`, to which a tag or a digest is added.
    pub(crate) fn repository(&self) -> String {
        format!("oci://127.0.0.1:{}/fleet/harbor", self.port)
    }

    /// Ends it, as when the machine goes away.
    pub(crate) fn stop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// How many blobs it stores.
    pub(crate) fn blobs(&self) -> usize {
        let found = run(&self.folder, "find", &["data", "-name", "data", "-type", "f"]);
        found.lines().count()
    }

    /// The file in which it stores a blob.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.trim_start_matches("sha256:");
        self.folder.join(format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs a program that must succeed.
pub(crate) fn run(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(folder).output().expect(program);
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs skopeo in the folder of the site.
pub(crate) fn skopeo(site: &Site, arguments: &[&str]) -> String {
    run(&site.world.path(""), "skopeo", arguments)
}

/// A certificate authority `ca.pem`, and a server's certificate for 127.0.0.1 and `registry.test`.
pub(crate) fn certificates(site: &Site) {
    let folder = site.world.path("");
    let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];
    let ca = ["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-addext", "keyUsage=keyCertSign"];
    run(&folder, "openssl", &[&new[..], &ca].concat());
    let leaf = ["-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", "server.key", "-out", "server.pem", "-subj", "/CN=s"];
    let names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:registry.test", "-addext", "basicConstraints=CA:FALSE"];
    run(&folder, "openssl", &[&new[..], &leaf, &names].concat());
}
