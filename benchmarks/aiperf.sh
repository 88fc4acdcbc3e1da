#!/bin/sh
# aiperf's replay of agent traces against servers that run already, one after the other.
# See benchmarks/aiperf.md.
#   AIPERF=/path/to/aiperf sh benchmarks/aiperf.sh TRACES TOKENIZER OUT NAME=URL [NAME=URL ...]
# A name that ends in -ids sends X-Session-ID.
set -e
traces=$1 tokenizer=$2 out=$3
shift 3
for server in "$@"; do
    name=${server%%=*} url=${server#*=} ids=false
    case $name in *-ids) ids=true ;; esac
    AIPERF_HTTP_X_SESSION_ID_FROM_CORRELATION_ID=$ids "${AIPERF:-aiperf}" profile \
        --url "$url" --model "${MODEL:-bench}" --tokenizer "$tokenizer" --endpoint-type chat \
        --streaming --custom-dataset-type weka_trace --input-file "$traces" \
        --concurrency "${CONCURRENCY:-4}" --request-count "${REQUESTS:-48}" \
        --use-server-token-count --extra-inputs ignore_eos:true \
        --artifact-dir "$out/$name" --ui none ${AIPERF_OPTIONS:-}
done
