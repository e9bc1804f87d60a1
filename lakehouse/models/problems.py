"""Write what is wrong with a model, with its file and line."""

from pathlib import Path

from lakehouse.errors import ModelError


def model_error(path: Path, message: str, line: int | None = None) -> ModelError:
    """Make the error of a model's file."""
    where = f"{path}: line {line}" if line else str(path)
    return ModelError(f"{where}: {' '.join(message.split()).rstrip('.')}.")
