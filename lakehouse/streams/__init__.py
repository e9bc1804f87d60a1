"""The streams: one folder each, with its contract, SQL and simulator. Nothing here knows of tables or of Dagster."""
