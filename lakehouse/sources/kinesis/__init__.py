"""Kinesis streams, read into landing objects so that each record lands once."""
