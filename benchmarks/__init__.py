"""What is claimed to be fast, measured beside its peers: ``python -m benchmarks``."""
