"""Models of random weights that the benchmarks run on, and their tokenizers."""
