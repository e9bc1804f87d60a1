"""The catalog: every table, view, named query and look-up with its columns, lineage, state and history, from metadata."""
