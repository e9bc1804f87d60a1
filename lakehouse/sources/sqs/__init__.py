"""S3 event messages from SQS, which announce files that arrived under `incoming/`."""
