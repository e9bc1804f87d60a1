"""Run the alerts of a home, for `python -m lakehouse.alerting`."""

import logging
import sys

from lakehouse.alerting.process import run_alerts
from lakehouse.errors import LakehouseError
from lakehouse.settings import get_settings

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        run_alerts(get_settings())
    except LakehouseError as error:
        sys.exit(f"lakehouse: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
