"""The stream social."""
