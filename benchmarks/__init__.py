"""Benchmarks: what Sellflow claims about speed and size, measured beside its peers on the same machine."""
