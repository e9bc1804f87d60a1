"""Messages to people: which causes need attention, which receivers get a message, and how it is delivered.

What Prometheus shows is in `http/published_metrics`; the alerts of a stream's data are in `serving/monitoring`.
"""
