"""Environment variables of the tests' processes.

Processes share the cores, and sums must not depend on how many there are: one thread each.
Nothing is fetched or reported. This is imported before torch and vLLM.
"""

import os

for _threads in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")
for _name in ("HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS"):
    os.environ.setdefault(_name, "1")
AT_START = dict(os.environ)
"""What a server of the tests starts with, whatever was set in this process since."""
