"""The stream clickstream."""
