"""Find anomalies in series of numbers, and measure how well. Knows neither tables nor streams; see `pipeline.anomalies`."""
