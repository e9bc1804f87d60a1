"""Features as they were known at a time: computed from the rows that had arrived by then. See `docs/features.md`."""
