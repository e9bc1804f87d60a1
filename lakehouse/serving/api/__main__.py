"""Runs the serving process in this one: `python -m lakehouse.serving.api`. The command line's own start is in `server`."""

import logging
import sys

from lakehouse.errors import LakehouseError
from lakehouse.serving.api.run import run_server
from lakehouse.settings import get_settings

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("pyiceberg").setLevel(logging.WARNING)  # it tells of every table it looks up
    try:
        run_server(get_settings())
    except LakehouseError as problem:
        sys.exit(str(problem))
