"""Landing objects: their keys and formats, the one writer, listings, uploads, and the readers that turn them into rows."""
