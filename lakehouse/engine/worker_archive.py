"""Pack this package and what its functions need on Spark's workers into an archive, from what is installed here.

So the workers have the versions of their driver. They need the same platform and the same version of Python.
"""

import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from io import BytesIO
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lakehouse.errors import LakehouseError

PACKAGE = "lakehouse"
EXTRA = "worker"
"""The extra of this package that lists what workers import."""

LEFT_OUT = frozenset({"__pycache__", "include", "tests", "test"})
"""Folders that no program imports at run time."""

LEFT_OUT_SUFFIXES = (".pyc", ".pyi", ".a", ".pxd", ".pyx")

LEFT_OUT_FILES = (
    "pyarrow/*flight*",
    "pyarrow/libarrow_python*.so",  # two copies of what is loaded as `.so.VERSION`
    "pyarrow/libarrow_python*.so.*.*.*",
    "zstandard/_cffi*",
    "hive_metastore/*.py",
)
"""Large files that nothing here loads."""

COMPRESSION_LEVEL = 1


@dataclass(frozen=True, slots=True)
class Archive:
    """The packed distributions, each with its version, and the size of all files in bytes."""

    versions: dict[str, str]
    bytes: int


def write_archive(path: Path) -> Archive:
    """Write a `.tar.gz` whose root is a folder for `PYTHONPATH`. Raises LakehouseError if a requirement is not installed."""
    distributions = _distributions()
    size = 0
    with tarfile.open(path, "w:gz", compresslevel=COMPRESSION_LEVEL) as archive:
        for file, name in chain(_own_files(), *map(_files, distributions[1:])):
            archive.add(file, name, recursive=False)
            size += file.stat().st_size
        _add_version(archive, distributions[0].version)
    return Archive({dist.name: dist.version for dist in distributions}, size)


def _distributions() -> list[Distribution]:
    """List this package and what it needs on workers, in order of their names."""
    own = distribution(PACKAGE)
    found: dict[str, Distribution] = {}
    wanted = [
        require for text in own.requires or [] if _applies(require := Requirement(text), {EXTRA}, only_extras=True)
    ]
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            raise LakehouseError(
                f"The package {requirement.name} is not installed. Run: pip install '{PACKAGE}[{EXTRA}]'"
            ) from None
        for text in found[name].requires or []:
            if _applies(require := Requirement(text), requirement.extras):
                wanted.append(require)
    return [own, *(found[name] for name in sorted(found))]


def _applies(requirement: Requirement, extras: set[str], *, only_extras: bool = False) -> bool:
    """Return whether a requirement holds here with these extras, and with `only_extras` not without them."""
    marker = requirement.marker
    if marker is None:
        return not only_extras
    if marker.evaluate({"extra": ""}):
        return not only_extras
    return any(marker.evaluate({"extra": extra}) for extra in extras)


def _files(dist: Distribution) -> Iterator[tuple[Path, str]]:
    """Give each file of a distribution with its name in the archive."""
    for file in dist.files or []:
        path = Path(str(dist.locate_file(file)))
        is_module = ".." not in file.parts and not file.is_absolute()
        if is_module and _is_needed(Path(*file.parts)) and path.is_file():
            yield path, str(file)


def _own_files() -> Iterator[tuple[Path, str]]:
    """Give this package's own files, because an editable installation does not list them."""
    package = sys.modules[PACKAGE]
    (root,) = map(Path, package.__path__)
    for path in sorted(root.rglob("*")):
        name = Path(PACKAGE) / path.relative_to(root)
        if path.is_file() and _is_needed(name):
            yield path, str(name)


def _add_version(archive: tarfile.TarFile, version: str) -> None:
    """Add what `importlib.metadata` reads this package's version from."""
    content = f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {version}\n".encode()
    entry = tarfile.TarInfo(f"{PACKAGE}-{version}.dist-info/METADATA")
    entry.size = len(content)
    archive.addfile(entry, BytesIO(content))


def _is_needed(name: Path) -> bool:
    is_module = LEFT_OUT.isdisjoint(name.parts[:-1]) and not name.name.endswith(LEFT_OUT_SUFFIXES)
    return is_module and not any(map(name.match, LEFT_OUT_FILES))
