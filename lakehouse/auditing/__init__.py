"""Compare every layer with what it was computed from. Nothing is changed; see `automation.repair` for repairs."""
