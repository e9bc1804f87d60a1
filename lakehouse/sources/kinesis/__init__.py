"""Kinesis streams, read into landing with each record once."""
