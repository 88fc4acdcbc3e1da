#!/bin/sh
# Stock vLLM and `caesura serve` side by side over HTTP, with the openai package: the model, the
# memory and the sessions of `caesura bench` (docs/results/pauses.md), so that the two can be
# compared. A quarter of an hour on two cores, where nothing else runs.
#   sh benchmarks/http.sh [OUT]     OUT/http.json: clients as they always were
#                                   OUT/http_session_ids.json: they send X-Session-ID
# At 5 sessions per second stock has some 1.2 times what it can serve; RATE=2 sets another rate.
set -e
out=${1:-benchmarks/results/http} sessions=${SESSIONS:-100} seeds=${SEEDS:-0,1,2}
logs=$(mktemp -d)
export VLLM_SERVER_DEV_MODE=1       # contexts are forgotten before each run
export OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1
model=$(python -c "from caesura.lab.models.noise_model import demo_model_path as p; print(p())")
flags="--host 127.0.0.1 --served-model-name bench --dtype float32 --enforce-eager
    --kv-cache-memory-bytes ${KV_MEMORY:-32M} --block-size 32 --max-model-len auto
    --max-num-batched-tokens 512"

# As `vllm serve`, which does not start where vLLM is installed as vllm-cpu.
python -m vllm.entrypoints.openai.api_server --model "$model" $flags --port 8101 \
    > "$logs/stock.log" 2>&1 &
stock=$!
# A random model calls no tools, by which an answer that will be continued is recognised.
caesura serve "$model" $flags --port 8102 --host-memory 1GiB --keep-contexts all \
    > "$logs/caesura.log" 2>&1 &
caesura=$!
trap 'kill $stock $caesura 2> /dev/null' EXIT

ready() {
    tries=0
    until curl -sf "http://127.0.0.1:$1/health" > /dev/null; do
        tries=$((tries + 1))
        if [ $tries -gt 240 ] || ! kill -0 "$3"; then
            tail -n 20 "$logs/$2.log"
            exit 1
        fi
        sleep 1
    done
}
ready 8101 stock $stock
ready 8102 caesura $caesura

bench() {
    caesura bench http --model bench --workload infercept-sample --scale-tokens 0.5 \
        --scale-pauses 0.2 "$@"
}
stock_url="--base-url http://127.0.0.1:8101" caesura_url="--base-url http://127.0.0.1:8102"
rate=${RATE:-5}
both="$stock_url $caesura_url --names stock,caesura --rate $rate --sessions $sessions"
mkdir -p "$out"
bench $both --seeds $seeds --json "$out/http.json"
# Fewer seeds, for the time that it takes.
bench $both --seeds ${ID_SEEDS:-0} --session-ids --json "$out/http_session_ids.json"
