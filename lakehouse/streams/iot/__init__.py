"""The stream iot."""
