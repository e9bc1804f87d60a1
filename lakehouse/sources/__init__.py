"""Where events come from: HTTP, Kinesis, SQS and simulators. Each source writes through `landing`."""
