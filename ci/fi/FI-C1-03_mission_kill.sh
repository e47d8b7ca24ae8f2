#!/usr/bin/env bash
# FI-C1-03: every process of the mission layer is killed; the relay takes, keeps and sends on as before, and what it took is
# activated when the mission layer is back. Then the relay is killed; plan and apply go on.
# AUTONOMY, EDGED and EDGECTL name the programs (default: those in build/).
story=FI-C1-03
. "$(dirname "$0")/../../examples/relay-fleet/lib"
enter "$@"
in_inbox() { [ -n "$(ls "$1/inbox" 2>/dev/null | grep -v '^\.')" ]; }
make_keys
for id in node-a node-b; do make_node "$id"; done
know_each_other node-a node-b
for id in node-a node-b; do relay_up "$id"; loop_up "$id"; done
join node-a node-b
release 1 1.0.0 node-a node-b
quietly autonomy import set-1 --state-root node-a
all_run 1 60 node-a node-b

tell "kill -9 of the mission layer of B"
edged_b=$(cat edged-node-b.pid)
stop loop-node-b KILL
release 2 1.1.0 node-a node-b
quietly autonomy import set-2 --state-root node-a
await 60 "serial 2 in the inbox of node-b" in_inbox node-b
[ "$(cat edged-node-b.pid)" = "$edged_b" ] && is_up edged-node-b || fail "edged of node-b died with the mission layer"
runs node-b 1 || fail "node-b activated something without its mission layer"
quietly edgectl --state-root node-b relay status
tell "B's edged (the same process) received serial 2 and answers; B runs serial 1"
loop_up node-b
all_run 2 60 node-b

tell "kill -9 of edged of B"
stop edged-node-b KILL
release 3 1.2.0 node-a node-b
quietly autonomy plan set-3 --state-root node-b
quietly autonomy apply set-3 --auto-approve --state-root node-b
runs node-b 3 || fail "node-b does not run serial 3"
tell "B planned and applied serial 3 without a relay" "FI-C1-03: passed"
