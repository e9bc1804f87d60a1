"""When and where the asset graph runs: the Dagster instance, its history, jobs, schedules, sensors. No asset here."""
