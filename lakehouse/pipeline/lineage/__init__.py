"""Record what each partition was computed from, and find the partitions that are stale."""
