"""The stream logs."""
