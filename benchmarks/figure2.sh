#!/bin/sh
# InferCept's second figure: normalized latency, completed sessions and time to first tokens over rates, for its models
# on its machine (A100, the link of its constants, 128 GB of host memory), and for two of its classes alone.
# Llama-3-70B has the structure of llama-3.1-70b. About half an hour on one core.
#   sh benchmarks/figure2.sh infercept_mix.jsonl OUT [name of one row]
set -e
mix=$1 out=$2 only=$3
mkdir -p "$out"
grep '"class":"qa"' "$mix" > "$out/qa.jsonl"
grep '"class":"chatbot"' "$mix" > "$out/chatbot.jsonl"
row() {
    name=$1 && shift
    [ -z "$only" ] || [ "$only" = "$name" ] || return 0
    caesura simulate --device a100-80gb --host-memory 128GB --horizon 60 --warmup 15 --seeds 0 --processes 1 \
        --policies stock-no-cache,discard,preserve,swap,infercept \
        --json "$out/$name.json" --out "$out/$name" "$@"
}
row figure2_gptj --model gpt-j-6b --workload "$mix" --rates 3,6,9
row figure2_vicuna --model vicuna-13b --workload "$mix" --rates 2,4,6
row figure2_llama --model llama-3.1-70b --tensor-parallel 4 --workload "$mix" --rates 1,2,3
row figure2_qa --model gpt-j-6b --workload "$out/qa.jsonl" --rates 2,4,6
row figure2_chatbot --model gpt-j-6b --workload "$out/chatbot.jsonl" --rates 4,8,12
