"""What each partition was computed from, and which partitions are stale."""
