"""The HTTP side: what Caesura adds to vLLM's server, as one endpoint plug-in of vLLM."""
