"""When the asset graph runs: jobs, schedules and sensors, and runs that a command executes itself. No asset is here."""
