"""SQL over the lake: views of one snapshot, the sandbox, workers and the hot tail."""
