"""Runs the server in this process: `python -m lakehouse.sources.http`. The command line's own start is in `server`."""

import logging
import sys

from lakehouse.errors import LakehouseError
from lakehouse.settings import get_settings
from lakehouse.sources.http.run import run_server

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        run_server(get_settings())
    except LakehouseError as problem:
        sys.exit(str(problem))
