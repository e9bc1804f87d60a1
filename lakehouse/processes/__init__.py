"""Start, watch and stop processes. What a process does belongs to its own room."""
