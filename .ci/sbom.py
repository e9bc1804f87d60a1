"""Write the SBOM and the licence report of what a user installs, and exit with 1 if a licence is not allowed.

`make sbom` passes the CycloneDX document of the whole environment, which has development tools as well. They are left out,
and the vendored files of the page are added. Usage: sbom.py FOLDER < environment.cdx.json
"""

import json
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

VENDORED = Path("lakehouse/serving/page/vendor/README.md")
VENDORED_ROW = re.compile(r"^\| `\S+` \| https://www\.npmjs\.com/package/(\S+) \| (\S+) \| ([\w.-]+),", re.MULTILINE)

ALLOWED = re.compile(
    r"Apache|BSD|MIT|ISC|MPL|Mozilla|LGPL|PSF|Python-2|Python Software Foundation|Unlicense|CC0|Zlib|HPND",
    re.IGNORECASE,
)
FORBIDDEN = re.compile(r"\b(AGPL|GPL|GNU (Affero )?General|SSPL|BUSL|Commons Clause|Proprietary)", re.IGNORECASE)

Component = dict[str, Any]


def licence(component: Component) -> str:
    """Return a component's licences as one text, empty if it declares none."""
    names = []
    for entry in component.get("licenses", ()):
        text = entry.get("expression") or entry["license"].get("id") or entry["license"].get("name", "")
        names.append(text.removeprefix("License :: ").removeprefix("OSI Approved :: "))
    # An old field of free text, which CycloneDX's tool leaves out.
    return (
        ", ".join(dict.fromkeys(names))
        or (metadata.metadata(component["name"]).get("License") or "").partition("\n")[0]
    )


def is_allowed(text: str) -> bool:
    """Return whether a licence asks for nothing beyond notices and the source of changed files. With OR, one such suffices."""
    return any(ALLOWED.search(part) and not FORBIDDEN.search(part) for part in text.split(" OR "))


def needed() -> set[str]:
    """Return the names of the distributions that this package needs, with all of its extras, directly or not."""
    found: set[tuple[str, str]] = set()
    waiting = [("lakehouse", extra) for extra in ["", *metadata.metadata("lakehouse").get_all("Provides-Extra", [])]]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in found:
            continue
        found.add((name, extra))
        for requirement in map(Requirement, metadata.requires(name) or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                other = canonicalize_name(requirement.name)
                waiting += [(other, wanted) for wanted in ["", *requirement.extras]]
    return {name for name, _ in found}


def vendored() -> list[Component]:
    """Describe the files of other projects that the page ships."""
    return [
        {
            "bom-ref": f"{name}=={version}",
            "type": "library",
            "name": name,
            "version": version,
            "purl": f"pkg:npm/{name}@{version}",
            "licenses": [{"license": {"id": spdx}}],
        }
        for name, version, spdx in VENDORED_ROW.findall(VENDORED.read_text())
    ]


def main() -> None:
    """Write both files, and report licences that are not allowed."""
    document, folder, names, extra = json.load(sys.stdin), Path(sys.argv[1]), needed(), vendored()
    components = [entry for entry in document["components"] if canonicalize_name(entry["name"]) in names] + extra
    root = document["metadata"]["component"]["bom-ref"]
    references = {root, *(entry["bom-ref"] for entry in components)}
    dependencies = [
        entry | {"dependsOn": sorted(references.intersection(entry.get("dependsOn", [])))}
        for entry in document["dependencies"]
        if entry["ref"] in references
    ]
    next(entry for entry in dependencies if entry["ref"] == root)["dependsOn"] += [entry["bom-ref"] for entry in extra]
    document |= {"components": components, "dependencies": dependencies}
    rows = [(entry["name"], entry["version"], licence(entry)) for entry in components]
    folder.mkdir(exist_ok=True)
    (folder / "lakehouse.cdx.json").write_text(json.dumps(document, indent=1))
    lines = ["| package | version | licence |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in sorted(rows))]
    (folder / "licences.md").write_text("\n".join(lines) + "\n")
    refused = [row for row in rows if not is_allowed(row[2])]
    print(f"{len(components)} components in {folder}/lakehouse.cdx.json, their licences in {folder}/licences.md")
    for name, version, text in refused:
        print(f"Not allowed: {name} {version}, licence: {text or 'none declared'}")
    sys.exit(bool(refused))


if __name__ == "__main__":
    main()
