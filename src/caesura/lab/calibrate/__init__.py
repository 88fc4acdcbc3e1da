"""`caesura calibrate`: what computing and copying cost on this machine."""
