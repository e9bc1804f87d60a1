"""The embedded storage server, SeaweedFS: starting, probing and stopping it."""
