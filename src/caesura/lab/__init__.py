"""The laboratory: benchmarks, the simulator, calibration, training and the demo.

Nothing of the product imports it. It needs what the extra `caesura[lab]` installs.
"""
