"""The parts that all HTTP services share: API keys, access control, problem details, metrics and the proxy."""
