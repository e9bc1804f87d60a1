"""The embedded storage server (SeaweedFS): start, probe and stop."""
