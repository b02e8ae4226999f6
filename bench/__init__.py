"""Benchmarks: the gateway beside its peers (`python -m bench`), and its stages alone (`python -m bench.micro`)."""
