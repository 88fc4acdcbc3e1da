#!/bin/sh
# The simulations of docs/results/pauses.md. Traces: see there. Takes an hour or two on two cores; the recorded
# ones have fewer seeds where docs/results/pauses.md says so.
#   sh benchmarks/simulations.sh infercept_mix.jsonl coding_agents.jsonl OUT
set -e
mix=$1 agents=$2 out=$3
mkdir -p "$out"
w1() {
    name=$1 && shift
    caesura simulate --device a100-80gb --model gpt-j-6b --workload "$mix" --horizon 160 --warmup 40 \
        --kv-memory 50GB --seeds 0,1,2 --json "$out/$name.json" --out "$out/$name" "$@"
}
w2() {
    name=$1 && shift
    caesura simulate --device h100-80gb --model llama-3.1-8b --workload "$agents" --max-context 65536 \
        --shared-prefix 10000 --horizon 1500 --warmup 300 --kv-memory 55GB --link 50GB/s \
        --seeds 0,1,2 --json "$out/$name.json" --out "$out/$name" "$@"
}
w1 w1_nohost --link 25GB/s --host-memory 0 --rates 12,15 \
    --policies stock,preserve,infercept,min-waste,infinite
w1 w1_rates --link 25GB/s --host-memory 0 --rates 5,7,9 --policies stock,min-waste,infinite
w1 eq_stock --link 25GB/s --host-memory 0 --rates 10,10.5,11 --policies stock
w1 eq_mw --link 25GB/s --host-memory 0 --rates 15.5,16 --policies min-waste
w1 eq_nc --link 25GB/s --host-memory 0 --rates 5,6,7 --policies stock-no-cache
w1 w1_8gb --link 25GB/s --host-memory 8GB --rates 12 --policies stock-host,swap,infercept,min-waste
w1 w1_slow --link 2GB/s --host-memory 8GB --rates 12 --policies stock-host,swap,min-waste
w1 w1_400gb --link 25GB/s --host-memory 400GB --rates 15 --policies stock-host,swap,min-waste
w2 w2_nohost --host-memory 0 --rates 0.05,0.08 --policies stock,preserve,infercept,min-waste,infinite
w2 w2_64gb --host-memory 64GB --rates 0.08,0.12 --policies stock-host,swap,infercept,min-waste
w1 ablation_discard --link 25GB/s --host-memory 0 --rates 5,7 --policies stock-no-cache,discard,preserve
w1 ablation_chunk --link 25GB/s --host-memory 0 --rates 5,7 --policies discard --max-batched-tokens 384
w1 ablation_infercept_no_host --link 25GB/s --host-memory 0 --rates 5,7 --policies infercept \
    --policy-option forget_discarded=1
w1 ablation_infercept --link 25GB/s --host-memory 100GB --rates 5,7 --policies infercept \
    --policy-option forget_discarded=1
w1 w1_shared --shared-prefix 500 --link 25GB/s --host-memory 0 --rates 12 --policies stock,min-waste,infinite
sh "$(dirname "$0")/figure2.sh" "$mix" "$out"
