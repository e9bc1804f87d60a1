"""Runs the server in this process: `python -m lakehouse.ingest.http`. The command line's own start is in `server`."""

import logging
import sys

from lakehouse.errors import LakehouseError
from lakehouse.ingest.http.run import run_server
from lakehouse.settings import get_settings

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        run_server(get_settings())
    except LakehouseError as problem:
        sys.exit(str(problem))
