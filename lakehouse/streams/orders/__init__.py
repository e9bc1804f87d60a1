"""The stream orders."""
