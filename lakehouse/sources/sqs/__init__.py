"""S3 event messages from SQS: which objects arrived under `incoming/`."""
