"""The proof, from the data itself, that each layer holds what the layers above it say. It reads and changes nothing."""
