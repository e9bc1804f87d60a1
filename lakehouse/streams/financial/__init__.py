"""The stream financial."""
