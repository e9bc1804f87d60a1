"""Landing objects: their keys, the one writer, uploads and the readers that turn them into rows."""
