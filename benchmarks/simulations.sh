#!/bin/sh
# The simulations of docs/results/: two hours or so on two cores.
#   sh benchmarks/simulations.sh infercept_mix.jsonl coding_agents.jsonl OUT [NAME...]      NAME: only these
set -e
mix=$1 agents=$2 out=$3
shift 3
names=" $* " seeds=0,1,2
mkdir -p "$out"
simulate() {
    name=$1 && shift
    [ "$names" = "  " ] || case $names in *" $name "*) ;; *) return 0 ;; esac
    caesura simulate --seeds "$seeds" --json "$out/$name.json" "$@"
}
w1() {
    name=$1 && shift
    simulate "$name" --model gpt-j-6b --workload "$mix" --horizon 100 --warmup 30 --kv-memory 50GB --link 25GB/s "$@"
}
# As InferCept published its constants: reading KV costs nothing.
free="--device a100-80gb-published"
w1 free $free --host-memory 0 --rates 12,15 --policies stock,infercept,min-waste,infinite
# The same sessions as clients send them over HTTP: each turn is a request.
w1 free_requests $free --host-memory 0 --rates 12,15 --turns-as requests \
    --policies stock,infercept,min-waste
w1 free_unnamed $free --host-memory 0 --rates 15 --turns-as unnamed \
    --policies stock,infercept,min-waste
# The oracle: sessions are ranked by the tokens that they will really generate.
w1 free_known_work $free --host-memory 0 --rates 12,15 --policies min-waste \
    --policy-option.known_work=1
w1 free_by_work $free --host-memory 0 --rates 12,15 --policies infercept,min-waste \
    --policy-option.served_by=work
w1 free_by_service $free --host-memory 0 --rates 12,15 --policies infercept,min-waste \
    --policy-option.served_by=service
w1 free_by_arrival $free --host-memory 0 --rates 12,15 --policies min-waste \
    --policy-option.served_by=arrival
# The rate at equal latency: around where each policy's mean comes to 100 ms per token.
w1 free_equal_stock $free --host-memory 0 --rates 10,11,12 --policies stock
w1 free_equal_infercept $free --host-memory 0 --rates 13,14,15 --policies infercept
w1 free_equal_min_waste $free --host-memory 0 --rates 16,18,20 --policies min-waste
w1 free_equal_no_cache $free --host-memory 0 --rates 5,6 --policies stock-no-cache
w1 free_low $free --host-memory 0 --rates 5,7 --policies stock,min-waste,infinite
w1 free_shared $free --host-memory 0 --rates 12,15 --shared-prefix 500 \
    --policies stock,infercept,min-waste
w1 free_8gb $free --host-memory 8GB --rates 12 --policies stock-host,infercept,min-waste
w1 free_8gb_slow $free --host-memory 8GB --rates 12 --policies infercept,min-waste --link 2GB/s
w1 free_400gb $free --host-memory 400GB --rates 15 --policies stock-host,infercept,min-waste
# With the price of reading KV, at 1.2 and 1.5 times the rate at which stock saturates.
w1 priced --device a100-80gb --host-memory 0 --rates 6,7.5 \
    --policies stock,infercept,continuum,autellix,augserve,thunderagent,min-waste,infinite
w1 priced_known_work --device a100-80gb --host-memory 0 --rates 6,7.5 --policies min-waste \
    --policy-option.known_work=1
# Coding agents: Llama-3.1-8B on an H100, contexts up to 64K, 10,000 tokens of prompt shared.
w2() {
    name=$1 && shift
    simulate "$name" --device h100-80gb --model llama-3.1-8b --workload "$agents" \
        --max-context 65536 --shared-prefix 10000 --horizon 1000 --warmup 200 --kv-memory 55GB \
        --link 50GB/s "$@"
}
w2 w2 --host-memory 0 --rates 0.08 --policies stock,infercept,min-waste,infinite
w2 w2_known_work --host-memory 0 --rates 0.08 --policies min-waste --policy-option.known_work=1
w2 w2_64gb --host-memory 64GB --rates 0.12 --policies stock-host,infercept,min-waste
w2 w2_64gb_known_work --host-memory 64GB --rates 0.12 --policies min-waste \
    --policy-option.known_work=1
for preset in tools coding-agent; do
    rate=2 && [ $preset = tools ] || rate=1
    simulate $preset --device a100-80gb --model gpt-j-6b --workload $preset --horizon 100 --warmup 20 --kv-memory 50GB \
        --link 25GB/s --host-memory 8GB --rates $rate --policies stock,stock-host,infercept,min-waste
    simulate ${preset}_requests --device a100-80gb --model gpt-j-6b --workload $preset --horizon 100 --warmup 20 \
        --kv-memory 50GB --link 25GB/s --host-memory 8GB --rates $rate --turns-as requests \
        --policies stock,infercept,min-waste
done
# InferCept's techniques, one by one, without the help of prefix caching.
w1 steps $free --host-memory 0 --rates 5,7 --policies stock-no-cache,discard,preserve
w1 steps_chunks $free --host-memory 0 --rates 5,7 --policies discard --max-batched-tokens 384
w1 steps_no_host $free --host-memory 0 --rates 5,7 --policies infercept \
    --policy-option.forget_discarded=1
w1 steps_host $free --host-memory 100GB --rates 5,7 --policies infercept \
    --policy-option.forget_discarded=1
# 64 equal sessions at once; nothing is drawn.
seeds=0
burst() {
    name=$1 memory=$2 host=$3 && shift 3
    python - "$out/equal.jsonl" "$@" <<'EOF'
import json
import sys

path, first, appended, output = sys.argv[1], *map(int, sys.argv[2:5])
turns = [{"append": first if turn == 0 else appended, "output": output} for turn in range(4)]
for turn in turns[:-1]:
    turn |= {"pause_s": 1.0, "endpoint": "tool"}
with open(path, "w") as file:
    for number in range(64):
        file.write(json.dumps({"id": f"s{number}", "class": "equal", "segments": turns}) + "\n")
EOF
    simulate "$name" $free --model gpt-j-6b --workload "$out/equal.jsonl" --sessions 64 --rates 1000000 \
        --kv-memory "$memory" --host-memory "$host" --link 25GB/s --policies stock,infercept,min-waste
    simulate "${name}_by_arrival" $free --model gpt-j-6b --workload "$out/equal.jsonl" --sessions 64 --rates 1000000 \
        --kv-memory "$memory" --host-memory "$host" --link 25GB/s --policies min-waste \
        --policy-option.served_by=arrival
    rm "$out/equal.jsonl"
}
burst burst_large 25GB 0 1500 200 300
burst burst_small 10GB 0 300 100 400
burst burst_small_8gb 10GB 8GB 300 100 400
