"""The `lakehouse` command. Each module runs one command and prints its result."""
