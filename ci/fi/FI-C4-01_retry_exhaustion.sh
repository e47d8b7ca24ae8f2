#!/usr/bin/env bash
# FI-C4-01: a peer refuses a set until its attempts are used up: the delivery ends as a dead letter, and neither a start anew, nor
# a kill, nor time brings another attempt. AUTONOMY, EDGED and EDGECTL name the programs (default: those in build/).
story=FI-C4-01
. "$(dirname "$0")/../../examples/relay-fleet/lib"
enter "$@"
rows() { edgectl --state-root node-a relay deadletter list --output json 2>/dev/null; }
attempts() { rows | jq '[.rows[] | select(.segment == "manifest")][0].attempts // 0'; }
is_dead() { [ "$(attempts)" -gt 0 ] 2>/dev/null; }
make_keys
make_node node-a
# B trusts somebody else, so it refuses whatever A sends.
quietly autonomy keygen --output-key-prefix stranger
mkdir right && mv root.json root.json.sigstore.jsonl right
quietly autonomy trust new --role root=stranger.pub:1 --role manifest=stranger.pub:1 --role artifact=stranger.pub:1 \
  --role policy=stranger.pub:1 --expires 2y --sign stranger.key --out root.json
make_node node-b
know_each_other node-a node-b
relay_up node-a; relay_up node-b
join node-a node-b
release 1 1.0.0 node-a node-b
quietly autonomy apply set-1 --auto-approve --state-root node-a
await 60 "the dead letter" is_dead
[ "$(attempts)" = 5 ] || fail "expected 5 attempts, got $(attempts)"
tell "terminal after $(attempts) attempts"
for signal in TERM KILL; do
  stop edged-node-a $signal
  relay_up node-a
  # Longer than the window in which attempts are made.
  sleep 12
  [ "$(attempts)" = 5 ] || fail "after SIG$signal and a start anew the attempts are $(attempts)"
  tell "after SIG$signal, a start anew and the window: still 5"
done
[ -z "$(ls node-b/inbox)" ] || fail "B took a set that it cannot trust"
tell "FI-C4-01: passed"
