"""Sources of events: HTTP, Kinesis, SQS and simulators. Each writes through `landing`."""
