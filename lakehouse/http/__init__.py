"""What every HTTP service shares: API keys, access control, problem details, metrics and the proxy."""
