//! nginx with git's own HTTP backend, and sshd: on loopback, from a temporary folder, ended with the test.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use autonomy_git::{Environment, GitOptions, GitUrl};

use crate::fixture::{git, options, url};

/// A server that does not come up within this time never will.
const PATIENCE: Duration = Duration::from_secs(30);
/// Ports are taken by other tests too, between asking for a free one and using it.
const ATTEMPTS: usize = 10;

/// A process that ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

pub(crate) fn run(folder: &Path, program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).current_dir(folder).output().expect(program);
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// Starts a server on a free port of loopback: `start` gets the port.
fn on_free_port(start: impl Fn(u16) -> Child) -> (u16, Running) {
    for _ in 0..ATTEMPTS {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let mut running = Running(start(port));
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            if running.0.try_wait().expect("waits").is_some() {
                break;
            }
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                // It answers; unless it is another that does, ours is still there.
                if running.0.try_wait().expect("waits").is_none() {
                    return (port, running);
                }
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    unreachable!("no server came up in {ATTEMPTS} attempts");
}

/// Serves every repository below a folder, as `/open/NAME` and, with a password, as `/closed/NAME`.
pub(crate) struct Https {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) port: u16,
    scheme: &'static str,
    _nginx: Running,
    _backend: Running,
}

pub(crate) const USER: &str = "ops";
pub(crate) const PASSWORD: &str = "p@ss:w/rd";

impl Https {
    /// `more` goes into nginx's server block.
    pub(crate) fn start(root: &Path, more: &str) -> Self {
        Self::with("https", root, more)
    }

    pub(crate) fn plain(root: &Path) -> Self {
        Self::with("http", root, "")
    }

    fn with(scheme: &'static str, root: &Path, more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = folder.path();
        certificates(dir);
        let hash = run(dir, "openssl", &["passwd", "-apr1", PASSWORD]);
        std::fs::write(dir.join("users"), format!("{USER}:{hash}\n")).expect("write");
        let backend = Command::new("fcgiwrap")
            .args(["-f", "-s", &format!("unix:{}/fcgi", dir.display())])
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("fcgiwrap starts");
        let backend = Running(backend);
        let since = Instant::now();
        while !dir.join("fcgi").exists() && since.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let (port, nginx) = on_free_port(|port| {
            let config = configuration(scheme, dir, root, port, more);
            std::fs::write(dir.join("nginx.conf"), config).expect("write");
            let error_log = dir.join("error.log").display().to_string();
            server("nginx")
                .args(["-p", &dir.display().to_string(), "-c", "nginx.conf", "-e", &error_log])
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("nginx starts")
        });
        Self { folder, port, scheme, _nginx: nginx, _backend: backend }
    }

    pub(crate) fn url(&self, rest: &str) -> GitUrl {
        url(&format!("git+{}://127.0.0.1:{}/{rest}", self.scheme, self.port))
    }

    /// Options that trust the server.
    pub(crate) fn options(&self) -> GitOptions<'static> {
        GitOptions { ca_file: Some(self.folder.path().join("ca.pem")), ..options() }
    }

    /// A credentials file with this login for the server.
    pub(crate) fn credentials(&self, login: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.folder.path().join(format!("credentials-{}", login.len()));
        let line = format!("https://other:x@elsewhere.example\n{}://{login}@127.0.0.1:{}\n", self.scheme, self.port);
        std::fs::write(&path, line).expect("write");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("chmod");
        path
    }
}

/// Servers lie where the path of a user does not lead.
fn server(program: &str) -> Command {
    let found = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/sbin"].map(|folder| Path::new(folder).join(program));
    // sshd wants to be called by its whole path.
    Command::new(found.into_iter().find(|path| path.exists()).expect(program))
}

fn configuration(scheme: &str, dir: &Path, root: &Path, port: u16, more: &str) -> String {
    let ssl = if scheme == "https" { "ssl" } else { "" };
    let certificate = if ssl.is_empty() { "" } else { "ssl_certificate server.pem; ssl_certificate_key server.key;" };
    let backend = git(root, &["--exec-path"], b"") + "/git-http-backend";
    let location = |name: &str, auth: &str| {
        format!(
            "location ~ ^/{name}(/.*)$ {{ {auth} fastcgi_pass unix:{dir}/fcgi; fastcgi_param SCRIPT_FILENAME {backend}; \
             fastcgi_param GIT_PROJECT_ROOT {root}; fastcgi_param GIT_HTTP_EXPORT_ALL ''; fastcgi_param PATH_INFO $1; \
             fastcgi_param QUERY_STRING $query_string; fastcgi_param REQUEST_METHOD $request_method; \
             fastcgi_param CONTENT_TYPE $content_type; fastcgi_param CONTENT_LENGTH $content_length; }}",
            dir = dir.display(),
            root = root.display(),
        )
    };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {}/{name};\n", dir.display()))
        .concat();
    format!(
        "daemon off; master_process off; pid {dir}/pid; error_log {dir}/error.log;\nevents {{}}\nhttp {{\n\
         access_log {dir}/access.log; {temporary}\nserver {{ listen 127.0.0.1:{port} {ssl}; {certificate}\n{}\n{}\n{more}\n}}\n}}\n",
        location("open", ""),
        location("closed", "auth_basic fleet; auth_basic_user_file users;"),
        dir = dir.display(),
    )
}

/// A private CA and a certificate for loopback, and another CA that signed nothing.
fn certificates(dir: &Path) {
    let new = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"];
    let authority = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign"];
    for name in ["ca", "other-ca"] {
        let (key, pem, subject) = (format!("{name}.key"), format!("{name}.pem"), format!("/CN={name}"));
        run(dir, "openssl", &[&new[..], &["-keyout", &key, "-out", &pem, "-subj", &subject], &authority].concat());
    }
    let leaf =
        ["-CA", "ca.pem", "-CAkey", "ca.key", "-keyout", "server.key", "-out", "server.pem", "-subj", "/CN=server"];
    let names = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-addext", "basicConstraints=CA:FALSE"];
    run(dir, "openssl", &[&new[..], &leaf, &names].concat());
}

/// sshd with one key that is let in.
pub(crate) struct Sshd {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) port: u16,
    _running: Running,
}

impl Sshd {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let dir = folder.path();
        for name in ["host", "user", "stranger"] {
            run(dir, "ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", name]);
        }
        std::fs::copy(dir.join("user.pub"), dir.join("authorized")).expect("copies");
        if rustix::process::geteuid().is_root() {
            // Where sshd locks its unprivileged half into.
            std::fs::create_dir_all("/run/sshd").expect("mkdir");
        }
        let (port, sshd) = on_free_port(|port| {
            let config = format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/authorized\n\
                 PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
                 PermitRootLogin yes\n",
                dir = dir.display()
            );
            std::fs::write(dir.join("sshd_config"), config).expect("write");
            server("sshd")
                .args(["-D", "-e", "-f"])
                .arg(dir.join("sshd_config"))
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("sshd starts")
        });
        let host = std::fs::read_to_string(dir.join("host.pub")).expect("reads");
        std::fs::write(dir.join("known"), format!("[127.0.0.1]:{port} {host}")).expect("write");
        Self { folder, port, _running: sshd }
    }

    /// The repository at this path.
    pub(crate) fn url(&self, repository: &Path, query: &str) -> GitUrl {
        let user = run(self.folder.path(), "id", &["-un"]);
        url(&format!("git+ssh://{user}@127.0.0.1:{}{}{query}", self.port, repository.display()))
    }

    /// Options with an ssh client that has this key and knows the hosts of this file.
    pub(crate) fn options(&self, key: &str, known: &str) -> GitOptions<'static> {
        let dir = self.folder.path();
        let config = dir.join(format!("ssh_config-{key}-{known}"));
        let text = format!(
            "IdentityFile {dir}/{key}\nIdentitiesOnly yes\nIdentityAgent none\nUserKnownHostsFile {dir}/{known}\n\
             GlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\n",
            dir = dir.display()
        );
        std::fs::write(&config, text).expect("write");
        let command = format!("ssh -F '{}'", config.display());
        GitOptions { environment: Environment { ssh_command: Some(command), ..Environment::default() }, ..options() }
    }
}
