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

# What most agents do today beside what a session in place does; each optimisation of sync by itself.
bench --suite bfcl-first-turns --cases 20 --latency paper \
    --modes requests,sync,sync_parallel,async,futures --json "$results/first_turns.json"
bench --suite bfcl-first-turns --cases 15 --latency paper \
    --modes sync,sync_parallel,sync_parallel_eager,sync_fused,sync_cached --json "$results/optimisations.json"
bench --suite bfcl-parallel --cases 25 --latency paper --modes sync,async,futures --json "$results/futures_parallel.json"
bench --suite bfcl-multi-step --cases 15 --latency paper --dependencies steps --modes sync,async,futures \
    --json "$results/futures_multi_step.json"

crowd() { bench --suite bfcl-multi-step-parallel --sessions 64 --policies min-waste,preserve --kv-memory 24MiB "$@"; }
crowd --seeds 0,1,2 --json "$results/crowd.json"
crowd --seeds 0,1,2 --policy-option served_by=arrival --json "$results/crowd_by_arrival.json"
crowd --seeds 0,1 --latency uniform:0.5:5 --json "$results/crowd_slow_calls.json"

# In virtual time: by the time per token, and many sessions under memory pressure.
simulate() { caesura simulate calls --data "$data" --latency paper "$@"; }
simulate --cases 66 --modes requests,sync,sync_parallel,async --json "$results/simulated_first_turns.json"
simulate --cases 66 --modes requests,async --request-ms 310 --json "$results/simulated_first_turns_310ms.json"
for seconds in 0.1 1 10; do
    caesura simulate calls --data "$data" --suite bfcl-multi-step-parallel --latency uniform:$seconds:$seconds --token-ms 5 \
        --sessions 32 --seeds 0,1,2 --kv-tokens 24576 --policies preserve,min-waste,trap-rule \
        --json "$results/simulated_traps_$seconds.json"
done

caesura bench calls --suite demo --cases 60 --json "$results/demo.json"
python benchmarks/async_bounds.py "$data" --json "$results/bounds.json"
python benchmarks/async_tables.py "$results"/*.json
