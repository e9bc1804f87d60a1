"""SQL over the lake: snapshots and the hot tail, the sandbox, the pools that run queries, and their results."""
