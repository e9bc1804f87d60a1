"""S3 objects: read, list, conditional writes and multipart uploads."""
