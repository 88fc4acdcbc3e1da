#!/bin/sh
# The simulations of docs/results/fleet.md: half an hour or so on two cores.
#   sh benchmarks/fleet.sh OUT [NAME...]      NAME: only these
set -e
out=$1 && shift
names=" $* "
mkdir -p "$out"
simulate() {
    name=$1 && shift
    [ "$names" = "  " ] || case $names in *" $name "*) ;; *) return 0 ;; esac
    caesura simulate --model gpt-j-6b --workload infercept-mix --horizon 60 --warmup 12 --kv-memory 50GB \
        --host-memory 8GB --link 25GB/s --policies stock,min-waste --json "$out/$name.json" "$@"
}
# As InferCept published its constants, and with the price of reading KV.
for device in a100-80gb-published a100-80gb; do
    short=priced && [ $device = a100-80gb ] || short=free
    for router in sticky hash least; do
        simulate ${short}_$router --device $device --engines 4 --rates 8 --seeds 0,1 --router $router
        simulate ${short}_${router}_fluid --device $device --engines 4 --rates 8 --seeds 0,1 --router $router --fluid
    done
done
free="--device a100-80gb-published"
simulate free_low $free --engines 4 --rates 5 --seeds 0 --router sticky
simulate free_low_least $free --engines 4 --rates 5 --seeds 0 --router least
simulate free_fail $free --engines 4 --rates 8 --seeds 0 --fail 40:0 --policies min-waste
simulate free_drain $free --engines 4 --rates 8 --seeds 0 --drain 40:0 --policies min-waste
simulate free_fail_fluid $free --engines 4 --rates 8 --seeds 0,1 --fail 40:0 --fluid
simulate free_drain_fluid $free --engines 4 --rates 8 --seeds 0,1 --drain 40:0 --fluid
for router in sticky hash least; do
    simulate 32_$router $free --engines 32 --rates 8 --seeds 0 --router $router --stale 0.2 --fluid
    simulate 1000_$router $free --engines 1000 --rates 8 --seeds 0 --router $router --stale 0.2 --fluid \
        --fail 20:0,30:1,40:2 --drain 50:3
done
simulate 32_exact $free --engines 32 --rates 8 --seeds 0 --stale 0.2 --horizon 30 --policies min-waste
simulate 32_fail $free --engines 32 --rates 8 --seeds 0 --stale 0.2 --fluid --fail 40:0,40:1,40:2,40:3
