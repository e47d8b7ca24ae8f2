//! Who gets in, and how: certificates, passwords, helpers, tokens, proxies; and that nobody else is contacted.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use crate::node::Site;
use crate::registry::{Registry, Setup, certificates};
use crate::rogue::{Act, Rogue, answer, text};

/// Release 2 as the set `two`; the node runs release 1.
fn with_set() -> Site {
    let site = Site::running();
    site.set("two", 2);
    site
}

/// Writes docker's config file into a folder of its own; gives the folder.
fn docker_config(site: &Site, name: &str, text: &str) -> String {
    let folder = site.world.path(name);
    std::fs::create_dir_all(&folder).expect("folder");
    let file = folder.join("config.json");
    std::fs::write(&file, text).expect("writes");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    folder.display().to_string()
}

#[test]
fn a_private_authority_is_trusted_when_it_is_named() {
    let site = with_set();
    certificates(&site);
    let registry = Registry::start_with(&site, &Setup { tls: true, ..Setup::default() });
    let place = format!("{}:2", registry.repository());
    site.world.run(&format!("push two {place} --ca-file ca.pem")).exits(0);
    site.node(&format!("plan {place} --ca-file ca.pem")).exits(0);
    let ran = site.node(&format!("plan {place} --tls")).exits(1).warns("registry_error: ");
    assert!(ran.stderr().to_ascii_lowercase().contains("certificate"), "{}", ran.stderr());
    site.node(&format!("plan {place} --ca-file two/manifest.json")).exits(1).warns("holds no certificate");
    site.node(&format!("plan {place} --ca-file absent.pem")).exits(1).warns("registry_error: ");
    // Without TLS it answers nothing that could be used.
    site.node(&format!("plan {place}")).exits(1).warns("registry_error: ");
}

#[test]
fn a_password_comes_from_dockers_config_or_a_helper_and_is_never_shown() {
    let site = with_set();
    let registry = Registry::start_with(&site, &Setup { passwords: true, ..Setup::default() });
    let (place, host) = (format!("{}:2", registry.repository()), format!("127.0.0.1:{}", registry.port));
    site.world.run(&format!("push two {place}")).exits(1).warns("registry_error: ").warns("status 401");
    let good = docker_config(&site, "good", &format!(r#"{{"auths":{{"{host}":{{"auth":"b3BzOnA6dw=="}}}}}}"#));
    site.world.run_in(&format!("push two {place}"), &[("DOCKER_CONFIG", &good)]).exits(0);
    let home = site.world.path("home");
    std::fs::create_dir(&home).expect("folder");
    docker_config(&site, "home/.docker", &format!(r#"{{"auths":{{"http://{host}/v2/":{{"auth":"b3BzOnA6dw=="}}}}}}"#));
    site.world.run_in(&format!("oci probe {place}"), &[("HOME", &home.display().to_string())]).exits(0);
    let wrong = docker_config(&site, "wrong", &format!(r#"{{"auths":{{"{host}":{{"auth":"b3BzOndyb25n"}}}}}}"#));
    let ran = site.world.run_in(&format!("pull {place} --to got"), &[("DOCKER_CONFIG", &wrong)]).exits(1);
    assert!(
        ran.stderr().contains("`ops`") && !ran.stderr().contains("wrong\"") && !ran.stderr().contains("b3Bz"),
        "{}",
        ran.stderr()
    );
    let garbled = docker_config(&site, "garbled", r#"{"auths":{"h":{"auth":hush}}}"#);
    let ran = site.world.run_in(&format!("pull {place} --to got"), &[("DOCKER_CONFIG", &garbled)]).exits(1);
    assert!(ran.stderr().contains("not docker's config") && !ran.stderr().contains("hush"), "{}", ran.stderr());
    let open = docker_config(&site, "open", &format!(r#"{{"auths":{{"{host}":{{"auth":"b3BzOnA6dw=="}}}}}}"#));
    std::fs::set_permissions(site.world.path("open/config.json"), std::fs::Permissions::from_mode(0o644))
        .expect("chmod");
    site.world.run_in(&format!("pull {place} --to got"), &[("DOCKER_CONFIG", &open)]).exits(1).warns("chmod 600");
    // Helpers, for one host and for all.
    let bin = site.world.path("bin");
    std::fs::create_dir(&bin).expect("folder");
    let helper = "#!/bin/sh\nread host; [ \"$1 $host\" = \"get $WANTED\" ] || { echo unknown; exit 1; }\necho '{\"Username\":\"ops\",\"Secret\":\"p:w\"}'\n";
    site.world.write("bin/docker-credential-mine", helper);
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(bin.join("docker-credential-mine"), executable).expect("chmod");
    let path = format!("{}:/usr/bin:/bin", bin.display());
    for (name, text) in [
        ("helper", format!(r#"{{"credHelpers":{{"{host}":"mine"}}}}"#)),
        ("store", r#"{"credsStore":"mine"}"#.to_owned()),
    ] {
        let config = docker_config(&site, name, &text);
        let environment = [("DOCKER_CONFIG", &*config), ("PATH", &*path), ("WANTED", &*host)];
        site.world.run_in(&format!("pull {place} --to got"), &environment).exits(0);
        let elsewhere = [("DOCKER_CONFIG", &*config), ("PATH", &*path), ("WANTED", "another.host")];
        site.world.run_in(&format!("pull {place} --to got"), &elsewhere).exits(1).warns("status 401");
    }
    let absent = docker_config(&site, "absent", r#"{"credsStore":"nowhere"}"#);
    site.world
        .run_in(&format!("pull {place} --to got"), &[("DOCKER_CONFIG", &absent)])
        .exits(1)
        .warns("docker-credential-nowhere");
}

#[test]
fn a_token_is_fetched_from_the_registry_itself_and_what_its_endpoint_says_is_not_shown() {
    let site = with_set();
    let registry = Registry::start(&site);
    site.world.run(&format!("push two {}:2", registry.repository())).exits(0);
    let start = |refuse: bool| {
        Rogue::start(registry.port, move |head| {
            let head = head.to_ascii_lowercase();
            let host = head.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
            if head.starts_with("get /token?service=s&scope=repository%3afleet%2fharbor%3apull ") {
                if !head.contains("authorization: basic b3bzona6dw==") || refuse {
                    return answer("400 Bad Request", "Content-Length: 19\r\n", "no: ops:p:w is hush");
                }
                return answer("200 OK", "Content-Length: 21\r\n", r#"{"token":"let-me-in"}"#);
            }
            if head.contains("authorization: bearer let-me-in") {
                return Act::Pass;
            }
            let realm =
                format!("Bearer realm=\"http://{host}/token\",service=\"s\",scope=\"repository:fleet/harbor:pull\"");
            Act::Answer(text("401 Unauthorized", &format!("WWW-Authenticate: {realm}\r\nContent-Length: 0\r\n"), ""))
        })
    };
    let config = |port: u16| {
        docker_config(&site, "tokens", &format!(r#"{{"auths":{{"127.0.0.1:{port}":{{"auth":"b3BzOnA6dw=="}}}}}}"#))
    };
    let good = start(false);
    let folder = config(good.port);
    site.world.run_in(&format!("pull {}:2 --to got", good.repository()), &[("DOCKER_CONFIG", &folder)]).exits(0);
    let bad = start(true);
    let folder = config(bad.port);
    let ran =
        site.world.run_in(&format!("pull {}:2 --to got", bad.repository()), &[("DOCKER_CONFIG", &folder)]).exits(1);
    let said = ran.warns("status 400").stderr();
    assert!(!said.contains("hush") && !said.contains("p:w"), "{said}");
}

#[test]
fn a_proxy_of_the_environment_is_used_and_the_registry_is_not_looked_up() {
    let site = with_set();
    certificates(&site);
    let registry = Registry::start_with(&site, &Setup { tls: true, ..Setup::default() });
    let proxy = Rogue::start(registry.port, |_| Act::Close);
    let address = format!("http://127.0.0.1:{}", proxy.port);
    // Nobody resolves `registry.test`: the proxy alone knows where it is.
    let place = "oci://registry.test/fleet/harbor:2";
    site.world.run_in(&format!("push two {place} --ca-file ca.pem"), &[("HTTPS_PROXY", &address)]).exits(0);
    assert!(proxy.asked().iter().all(|head| head.starts_with("CONNECT registry.test:443 ")), "{:?}", proxy.asked());
    let pull = format!("pull {place} --to got --trust-root root.json --ca-file ca.pem");
    site.world.run_in(&pull, &[("https_proxy", &address)]).exits(0);
    let seen = proxy.asked().len();
    // This machine is reached without it.
    let near = format!("plan {}:2 --ca-file ca.pem --state-root node", registry.repository());
    site.world.run_in(&near, &[("HTTPS_PROXY", &address), ("HTTP_PROXY", &address)]).exits(0);
    assert_eq!(proxy.asked().len(), seen);
    let without = [("HTTPS_PROXY", &*address), ("NO_PROXY", "registry.test")];
    site.world.run_in(&format!("oci probe {place} --ca-file ca.pem"), &without).exits(1).warns("registry_error: ");
    assert_eq!(proxy.asked().len(), seen);
}

#[test]
fn nothing_is_contacted_that_the_reference_does_not_name() {
    let site = with_set();
    let registry = Registry::start(&site);
    let place = registry.repository();
    for verb in [format!("push two {place}:2"), format!("pull {place}:2 --to got"), format!("oci probe {place}:2")] {
        let traced = Command::new("strace")
            .args(["-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", "trace"])
            .arg(env!("CARGO_BIN_EXE_autonomy"))
            .args(verb.split(' '))
            .current_dir(site.world.path(""))
            .env_clear()
            .output()
            .expect("strace");
        assert!(traced.status.success(), "{verb}: {}", String::from_utf8_lossy(&traced.stderr));
        let trace = String::from_utf8(site.world.read("trace")).expect("UTF-8");
        let places = trace.lines().filter(|line| line.contains("AF_"));
        let port = format!("htons({})", registry.port);
        let (mut there, mut elsewhere) = (0, Vec::new());
        for line in places {
            if line.contains(&port) && line.contains("127.0.0.1") {
                there += 1;
            } else {
                elsewhere.push(line);
            }
        }
        assert!(there > 0 && elsewhere.is_empty(), "{verb}: {elsewhere:?}");
    }
}
