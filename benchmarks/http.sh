#!/bin/sh
# Stock vLLM and `caesura serve` side by side over HTTP, with the openai package: the small bench
# model on CPU, as many sessions per second as stock completes at most, times 1.2.
# Some ten minutes on two cores, where nothing else runs. Memory for about 4,000 tokens, so that
# paused contexts compete for it.
#   sh benchmarks/http.sh [OUT]     OUT/http.json: clients as they always were
#                                   OUT/http_session_ids.json: they send X-Session-ID
# RATE=2.5 sets the rate; the one that is measured is too low where pauses are most of a session.
set -e
out=${1:-benchmarks/results} sessions=${SESSIONS:-40} seeds=${SEEDS:-0,1,2}
logs=$(mktemp -d)
export VLLM_SERVER_DEV_MODE=1       # contexts are forgotten before each run
export OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind VLLM_NO_USAGE_STATS=1 HF_HUB_OFFLINE=1
model=$(python -c "from caesura.lab.models.bench_model import bench_model_path as p; print(p())")
flags="--host 127.0.0.1 --served-model-name bench --dtype float32 --enforce-eager
    --kv-cache-memory-bytes ${KV_MEMORY:-4M} --block-size 32 --max-model-len 2048
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
        --scale-pauses 0.1 "$@"
}
stock_url="--base-url http://127.0.0.1:8101" caesura_url="--base-url http://127.0.0.1:8102"
rate=${RATE:-}
if [ -z "$rate" ]; then
    # Many at once: what stock completes per second then is the most that it can.
    bench $stock_url --names stock --rate 1000 --seeds 0 --sessions $((sessions * 3 / 2)) \
        --json "$logs/most.json"
    rate=$(python -c "
import json
(run,) = json.load(open('$logs/most.json'))['runs']
print(round(1.2 * run['completed_per_second'], 2))")
fi
echo "$rate sessions/s"
both="$stock_url $caesura_url --names stock,caesura --rate $rate --sessions $sessions"
mkdir -p "$out"
bench $both --seeds $seeds --json "$out/http.json"
# Fewer seeds, for the time that it takes.
bench $both --seeds ${ID_SEEDS:-0} --session-ids --json "$out/http_session_ids.json"
