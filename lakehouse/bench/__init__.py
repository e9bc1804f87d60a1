"""Benchmarks: each measures one figure beside its counterpart. What they measure lives elsewhere."""
