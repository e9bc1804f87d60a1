"""What `bench faults` forks its processes from: imported by multiprocessing's fork server, it leaves one thread there."""

from lakehouse.runtime.run_forker import load
from lakehouse.settings import get_settings

load(get_settings())
