"""What each layer is computed from and how it is committed, as plain functions. Dagster's view of it is in `assets`."""
