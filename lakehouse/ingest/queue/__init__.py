"""S3's own messages about new objects, from an SQS queue. What becomes of the objects is not known here."""
