"""Benchmarks. Each module measures one thing beside its counterpart and yields figures."""
