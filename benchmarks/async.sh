#!/bin/sh
# Records the figures of docs/results/async.md: an hour on two idle cores.
#
#     benchmarks/async.sh DATA [RESULTS]
#
# DATA is the folder of BFCL v4's files. Nothing else should run: on a machine with two cores any other
# process doubles the time per token, and that changes the ratio of G to E.
set -eu
data=$1
results=${2:-benchmarks/results/async}
bench() { caesura bench calls --data "$data" "$@"; }
uniform=uniform:0.03:0.5

bench --suite bfcl-parallel --cases 50 --latency $uniform --order longest-first,random --json "$results/parallel.json"
bench --suite bfcl-parallel --cases 50 --order longest-first,random --json "$results/parallel_typical.json"
bench --suite bfcl-parallel --cases 50 --latency longtail --order longest-first,random --json "$results/parallel_longtail.json"
bench --suite bfcl-multi-step --cases 20 --latency $uniform --json "$results/multi_step.json"
bench --suite bfcl-multi-step-parallel --cases 50 --latency $uniform --json "$results/multi_step_parallel.json"
bench --suite bfcl-multi-step-parallel --cases 20 --latency $uniform --dependencies steps --json "$results/multi_step_parallel_steps.json"

crowd() { bench --suite bfcl-multi-step-parallel --sessions 64 --policies min-waste,preserve --kv-memory 24MiB "$@"; }
crowd --seeds 0,1,2 --json "$results/crowd.json"
crowd --seeds 0,1,2 --policy-option served_by=arrival --json "$results/crowd_by_arrival.json"
crowd --seeds 0,1 --latency uniform:0.5:5 --json "$results/crowd_slow_calls.json"

caesura bench calls --suite demo --cases 60 --json "$results/demo.json"
python benchmarks/async_bounds.py "$data" --json "$results/bounds.json"
python benchmarks/async_tables.py "$results"/*.json
