"""What people watch: overview, alerts, freshness and partition state."""
