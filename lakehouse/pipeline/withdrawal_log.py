"""Read the records of withdrawals: objects that are only ever added. See `maintenance.withdrawal` for making them."""

import json

from lakehouse.storage.objects.store import Objects

FOLDER = "withdrawals"
"""The folder of records, each an object that is never changed: what was withdrawn, and when."""


def withdrawn_objects(objects: Objects, stream: str) -> set[str]:
    """List the landing objects of a stream that were withdrawn."""
    infos = objects.list(f"{FOLDER}/{stream}")
    return {key for info in infos for key in json.loads(objects.get(info.key))["objects"]}
