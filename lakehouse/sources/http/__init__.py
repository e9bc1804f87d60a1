"""The HTTP ingest service and its client: events over HTTP become landing objects."""
