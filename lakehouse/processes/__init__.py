"""Start, watch and stop child processes. What a process does belongs to its own room."""
