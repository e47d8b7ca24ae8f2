#!/usr/bin/env python3
"""measure.py - autonomy beside `rsync -c -a` of the same tree, in the same run.

For N artifact files two signed releases are rendered; in the second, 10 % of the files have other content. Then, per
round and in this order, on a fresh node and a fresh destination:
  render          the authored folder to a set                         (autonomy only)
  verify          every signature and every byte of the set            (autonomy only)
  plan first      what a first activation would do
  apply first     all N files          beside  rsync first   all files, empty destination
  plan no-op      nothing changed      beside  rsync no-op   nothing changed
  plan no-op -vc  the same with --verify-content
  apply change    10 % of N files      beside  rsync change  10 % of the files
`rsync fsync …` is rsync with --fsync: apply is durable when it returns, plain rsync is not.
Round 0 warms up and takes peak memory (/usr/bin/time); one more counts system calls (strace -c -f); the timed rounds
run without either. autonomy and rsync alternate, so that noise of the machine meets both.
usage: bench/run [-n 10,1000,10000] [-r ROUNDS] [-o DIR] [--keep] [--no-summary]
"""
import argparse, datetime, hashlib, json, os, platform, re, shutil, statistics, subprocess, sys, time

TOP = os.path.realpath(os.path.join(os.path.dirname(__file__), ".."))
WORK = os.path.join(TOP, "bench/work")
BINARY = os.path.realpath(os.path.join(TOP, os.environ.get("BENCH_BINARY", "target/release/autonomy")))
ROUNDS = {10: 15, 1000: 9, 10000: 7}
STAMP = 1_790_000_000                  # mtime of every file of both sets, so that rsync sees 10 % changed, not 100 %
ENV = {**os.environ, "PATH": WORK + "/bin:" + os.environ["PATH"], "COSIGN_PASSWORD": "bench", "NO_COLOR": "1", "LC_ALL": "C"}
ENV.pop("AUTONOMY_STATE_ROOT", None)
OURS = ["render", "verify", "plan first", "apply first", "plan no-op", "plan no-op -vc", "apply change"]
THEIRS = ["rsync first", "rsync no-op", "rsync change", "rsync fsync first", "rsync fsync change"]
BESIDE = {"render": "rsync first", "verify": "rsync no-op", "plan first": "rsync first", "apply first": "rsync first",
          "plan no-op": "rsync no-op", "plan no-op -vc": "rsync no-op", "apply change": "rsync change"}
MANIFEST = """apiVersion: autonomy/v1
kind: StateManifest
metadata: {{ name: bench, serial: {serial}, channel: stable, issuedAt: 2026-11-25T00:00:00Z, expiresAt: 2036-11-25T00:00:00Z }}
spec:
  scope: {{ fleet: bench }}
  release: {{ version: 1.{serial}.0, artifactRef: "registry.bench:5000/a", policyRef: "registry.bench:5000/p" }}
  policy: {{ source: policy, name: bench, version: 1.0.0 }}
  artifacts:
"""
POLICY = "package autonomy.update\n\ndefault allow := false\n\nallow if count(input.manifest.spec.artifacts) > 0\n"


def sh(*cmd, cwd=None):
    done = subprocess.run(cmd, cwd=cwd, env=ENV, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"bench: {' '.join(cmd)} gave {done.returncode}:\n{done.stdout[-2000:]}")
    return done.stdout


def content(i, serial):
    """512 to 8191 bytes that do not compress, the same on every machine; every tenth file changes with the release."""
    seed = hashlib.sha256(f"{i} {serial if i % 10 == 0 else 0}".encode()).digest()
    size = 512 + int.from_bytes(hashlib.sha256(str(i).encode()).digest()[:2], "big") % 7680
    return hashlib.shake_256(seed).digest(size)


def place(i):
    return f"d{i // 100}/f{i:04}"


class Tree:
    """Everything of one N: keys, two signed sets, the node and the destination."""

    def __init__(self, n):
        self.n, self.d = n, f"{WORK}/{n}"
        shutil.rmtree(self.d, ignore_errors=True)
        os.makedirs(self.d + "/policy")
        for who in ("a", "b"):
            sh("autonomy", "keygen", "--output-key-prefix", who, cwd=self.d)
        roles = [x for role in ("root", "manifest", "artifact", "policy") for x in ("--role", f"{role}=a.pub,b.pub:{1 + (role in ('root', 'manifest'))}")]
        sh("autonomy", "trust", "new", *roles, "--expires", "2y", "--sign", "a.key", "--sign", "b.key", "--out", "root.json", cwd=self.d)
        self.bytes = 0
        for serial in (1, 2):
            self.author(serial)
            sh("autonomy", "render", "in", "--out", f"set-{serial}", cwd=self.d)
            for name, key in (("manifest.json", "a"), ("manifest.json", "b"), ("autonomy.lock.json", "a")):
                sh("autonomy", "sign", f"set-{serial}/{name}", "--key", key + ".key", cwd=self.d)
            for folder, _, names in os.walk(f"{self.d}/set-{serial}"):
                for name in names:
                    os.utime(f"{folder}/{name}", (STAMP, STAMP))
        self.author(1)
        self.manifest_bytes = os.path.getsize(f"{self.d}/set-1/manifest.json")

    def author(self, serial):
        lines = [MANIFEST.format(serial=serial)]
        os.makedirs(self.d + "/in/policy", exist_ok=True)
        with open(self.d + "/in/policy/update.rego", "w") as f:
            f.write(POLICY)
        self.bytes = 0
        for i in range(self.n):
            path = f"{self.d}/in/{place(i)}"
            os.makedirs(os.path.dirname(path), exist_ok=True)
            data = content(i, serial)
            self.bytes += len(data)
            with open(path, "wb") as f:
                f.write(data)
            name = "agent" if i == 0 else f"f{i:04}"
            lines.append(f"    - {{ name: {name}, path: {place(i)}, source: {place(i)} }}\n")
        with open(self.d + "/in/manifest.yaml", "w") as f:
            f.writelines(lines)

    def fresh(self):
        for name in ("node", "dst", "dst-fsync", "set-r"):
            shutil.rmtree(f"{self.d}/{name}", ignore_errors=True)
        sh("autonomy", "init", "--state-root", "node", "--node-id", "node-a", "--fleet", "bench", "--trust-root", "root.json", cwd=self.d)

    def command(self, what):
        node = ["--state-root", "node"]
        rsync = ["rsync", "-c", "-a", "--delete"] + (["--fsync"] if "fsync" in what else [])
        to = "dst-fsync/" if "fsync" in what else "dst/"
        return {
            "render": ["autonomy", "render", "in", "--out", "set-r"],
            "verify": ["autonomy", "verify", "set-1", "--trust-root", "root.json"],
            "plan first": ["autonomy", *node, "plan", "set-1"],
            "apply first": ["autonomy", *node, "apply", "set-1", "--auto-approve"],
            "plan no-op": ["autonomy", *node, "plan", "set-1", "--detailed-exitcode"],
            "plan no-op -vc": ["autonomy", *node, "plan", "set-1", "--detailed-exitcode", "--verify-content"],
            "apply change": ["autonomy", *node, "apply", "set-2", "--auto-approve"],
        }.get(what) or rsync + (["set-2/", to] if "change" in what else ["set-1/", to])

    def round(self, runner, ops):
        """One round; `runner(what, command)` measures one command."""
        self.fresh()
        for what in ops:
            if what.startswith(("apply", "rsync", "render")):
                os.sync()              # what earlier commands left dirty is not this one's to write
            runner(what, self.command(what))
        self.check(ops)

    def check(self, ops):
        """A wrong result voids the run."""
        for what, root in (("apply change", "node/current"), ("rsync change", "dst")):
            if what in ops:
                for i in range(self.n):
                    with open(f"{self.d}/{root}/artifacts/{place(i)}", "rb") as f:
                        if f.read() != content(i, 2):
                            sys.exit(f"bench: after `{what}` {place(i)} is wrong")


ORDER = ["render", "verify", "plan first", "apply first", "rsync first", "rsync fsync first", "plan no-op", "rsync no-op",
         "plan no-op -vc", "apply change", "rsync change", "rsync fsync change"]


def timed(tree, out):
    def run(what, command):
        log = open(tree.d + "/out.log", "wb")
        begin = time.perf_counter()
        child = subprocess.Popen(command, cwd=tree.d, env=ENV, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        expect(tree, what, child.returncode)
        out(dict(n=tree.n, op=what, wall_s=round(wall, 5), cpu_s=round(usage.ru_utime + usage.ru_stime, 5), load1=round(os.getloadavg()[0], 2)))
    return run


def expect(tree, what, code):
    if code:                           # --detailed-exitcode gives 2 when a no-op would change something
        log = open(tree.d + "/out.log", errors="replace").read()
        sys.exit(f"bench: `{what}` of {tree.n} files gave {code}:\n{log[-2000:]}")


def memory(tree, out):
    def run(what, command):
        with open(tree.d + "/out.log", "wb") as log:
            code = subprocess.run(["/usr/bin/time", "-f", "%M", "-o", "rss", *command], cwd=tree.d, env=ENV, stdin=subprocess.DEVNULL, stdout=log, stderr=log).returncode
        expect(tree, what, code)
        out(dict(n=tree.n, op=what, peak_kib=int(open(tree.d + "/rss").read().split()[-1])))
    return run


def syscalls(tree, out):
    def run(what, command):
        with open(tree.d + "/out.log", "wb") as log:
            code = subprocess.run(["strace", "-f", "-c", "-o", "calls", *command], cwd=tree.d, env=ENV, stdin=subprocess.DEVNULL, stdout=log, stderr=log).returncode
        expect(tree, what, code)
        rows = [line.split() for line in open(tree.d + "/calls") if re.match(r"\s*\d", line)]
        calls = {row[-1]: int(row[3]) for row in rows if row[-1] != "total"}
        out(dict(n=tree.n, op=what, syscalls=sum(calls.values()), by_call=dict(sorted(calls.items(), key=lambda x: -x[1]))))
    return run


CONTENT = re.compile(r"/(?:artifacts|segments|objects)/")


def content_reads(tree, command):
    """Opened and read files of artifacts, indices and objects, by the path behind the handle (strace -y)."""
    trace = tree.d + "/trace"
    calls = "trace=open,openat,openat2,read,pread64,readv,preadv,preadv2,mmap,copy_file_range,sendfile,splice,io_uring_setup"
    sh("strace", "-f", "-y", "-o", trace, "-e", calls, *command, cwd=tree.d)
    opened, read, total = set(), set(), 0
    for line in open(trace, errors="replace"):
        call = re.match(r"\d+ +(\w+)\(", line)
        if not call:
            continue
        total += 1
        if call[1].startswith("open"):
            into, paths = opened, re.findall(r"= \d+<([^>]*)>$", line.strip())
        else:
            into, paths = read, re.findall(r"\d<([^>]*)>", line)
        into.update(path for path in paths if CONTENT.search(path) and not os.path.isdir(path))
        if call[1].startswith("io_uring"):
            sys.exit("bench: io_uring hides reads from strace; this proof does not hold")
    return dict(content_files_opened=len(opened), content_files_read=len(read), traced_calls=total)


def proof(tree, out):
    """The no-op plan opens no content; --verify-content opens all; one touched file is one opened file."""
    tree.fresh()
    sh(*tree.command("apply first"), cwd=tree.d)
    plain, full = tree.command("plan no-op"), tree.command("plan no-op -vc")
    out(dict(n=tree.n, op="proof", case="unchanged", **content_reads(tree, plain)))
    out(dict(n=tree.n, op="proof", case="--verify-content", **content_reads(tree, full)))
    touched = f"{tree.d}/set-1/artifacts/{place(tree.n // 2)}"
    os.utime(touched, (STAMP + 1, STAMP + 1))
    out(dict(n=tree.n, op="proof", case="one file touched", **content_reads(tree, plain)))
    os.utime(touched, (STAMP, STAMP))


def startup(folder, name):
    sh("hyperfine", "-N", "--warmup", "20", "--runs", "300", "-n", "autonomy --version", "autonomy --version", "-n", "rsync --version", "rsync --version",
       "--export-json", f"{folder}/{name}", cwd=WORK)
    with open(f"{folder}/{name}") as f:
        data = json.load(f)
    for result in data["results"]:     # three digits of a microsecond each are noise
        result["times"] = [round(x, 6) for x in result["times"]]
        result.pop("exit_codes", None)
    with open(f"{folder}/{name}", "w") as f:
        json.dump(data, f)
        f.write("\n")
    return {r["command"]: r for r in data["results"]}


def machine():
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    fs = sh("stat", "-f", "-c", "%T", WORK).strip()
    ram = int(next(line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemTotal"))) / 2**20
    commit = sh("git", "-C", TOP, "rev-parse", "--short=12", "HEAD").strip()
    return dict(cores=os.cpu_count(), cpu=cpu, ram_gib=round(ram, 1), kernel=platform.release(), fs="ext4" if "ext" in fs else fs, commit=commit,
                binary_bytes=os.path.getsize(BINARY), rsync=sh("rsync", "--version").split()[2],
                strace=sh("strace", "-V").split()[3], hyperfine=sh("hyperfine", "--version").split()[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", default="10,1000,10000"); parser.add_argument("-r", type=int, default=0)
    parser.add_argument("-o", default=TOP + "/bench/results"); parser.add_argument("--keep", action="store_true")
    parser.add_argument("--no-summary", action="store_true")
    args = parser.parse_args()
    os.makedirs(WORK + "/bin", exist_ok=True); os.makedirs(args.o, exist_ok=True)
    # A copy: somebody may build meanwhile.
    shutil.copy2(BINARY, WORK + "/bin/autonomy.new"); os.rename(WORK + "/bin/autonomy.new", WORK + "/bin/autonomy")
    date = datetime.date.today().isoformat()
    raw = open(f"{args.o}/{date}-samples.jsonl", "w")
    samples = []

    def out(row):
        samples.append(row)
        raw.write(json.dumps(row) + "\n"); raw.flush()

    facts = machine()
    out(dict(op="machine", **facts))
    starts = startup(args.o, f"{date}-startup.json")
    for n in map(int, args.n.split(",")):
        began = time.time()
        tree = Tree(n)
        out(dict(n=n, op="tree", content_bytes=tree.bytes, manifest_bytes=tree.manifest_bytes))
        tree.round(memory(tree, out), ORDER)
        tree.round(syscalls(tree, out), ORDER)
        proof(tree, out)
        for _ in range(args.r or ROUNDS.get(n, 5)):
            tree.round(timed(tree, out), ORDER)
        print(f"bench: {n} files measured in {time.time() - began:.0f} s", file=sys.stderr, flush=True)
        if not args.keep:
            shutil.rmtree(tree.d)
    raw.close()
    text = summary(samples, facts, starts, date)
    print(text)
    if not args.no_summary:
        with open(f"{args.o}/summary.md", "w") as f:
            f.write(text)


def summary(samples, facts, starts, date):
    def pick(n, op, key):
        return [s[key] for s in samples if s.get("n") == n and s["op"] == op and key in s]

    def cell(value, other, form, wide=False):
        return form(value) if other is None else f"{form(value)} ({value / other:.2f}×)" if other else form(value)

    ms = lambda s: f"{s * 1000:.1f} ms" if s < 0.1 else f"{s * 1000:.0f} ms" if s < 10 else f"{s:.1f} s"
    mib = lambda k: f"{k / 1024:.1f} MiB"
    lines = ["# Measured: autonomy beside `rsync -c -a`", "",
             f"{date}, commit {facts['commit']}, release profile ({facts['binary_bytes'] / 2**20:.1f} MiB). Written by `bench/run`; raw samples beside this file. "
             "Each `(×)` is the ratio to the rsync row named in the last column, of the same run. Wall time is the median, with the spread "
             "(smallest to largest) after it.", "",
             f"Machine: {facts['cores']} cores ({facts['cpu']}), {facts['ram_gib']} GiB, Linux {facts['kernel']}, {facts['fs']}; rsync {facts['rsync']}. "
             "It was **shared**: other work compiled on it at the same time, so read ratios and system calls, not milliseconds. "
             "Caches are warm for both; a `sync` runs before each command that writes.", ""]
    for name in ("autonomy --version", "rsync --version"):
        r = starts[name]
        lines.append(f"Start-up, `{name}`: median {r['median'] * 1000:.2f} ms, smallest {r['min'] * 1000:.2f} ms ({len(r['times'])} runs).  ")
    for n in sorted({s["n"] for s in samples if "n" in s}):
        tree = next(s for s in samples if s["op"] == "tree" and s["n"] == n)
        runs = len(pick(n, "verify", "wall_s"))
        lines += ["", f"## {n:,} artifact files", "",
                  f"{tree['content_bytes'] / 2**20:.1f} MiB of content, manifest of {tree['manifest_bytes']:,} bytes, {runs} timed rounds.", "",
                  "| command | wall | spread | CPU | system calls | peak memory | beside |", "|---|---:|---:|---:|---:|---:|---|"]
        for op in ORDER:
            beside = BESIDE.get(op)
            wall, cpu = pick(n, op, "wall_s"), pick(n, op, "cpu_s")
            one = lambda key: (pick(n, op, key)[0], pick(n, beside, key)[0] if beside else None)
            median = lambda key: (statistics.median(pick(n, op, key)), statistics.median(pick(n, beside, key)) if beside else None)
            lines.append(f"| {op} | {cell(*median('wall_s'), ms)} | {ms(min(wall))} – {ms(max(wall))} | {ms(statistics.median(cpu))} | "
                         f"{cell(*one('syscalls'), lambda v: f'{v:,}')} | {cell(*one('peak_kib'), mib)} | {beside or ''} |")
        proofs = [s for s in samples if s["op"] == "proof" and s["n"] == n]
        lines += ["", "| no-op plan, by strace | content files opened | read |", "|---|---:|---:|"]
        lines += [f"| {p['case']} | {p['content_files_opened']:,} | {p['content_files_read']:,} |" for p in proofs]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
