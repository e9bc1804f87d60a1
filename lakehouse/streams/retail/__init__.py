"""The stream retail."""
