"""What every HTTP service shares: API keys, authentication, problem details, metrics and the proxy."""
