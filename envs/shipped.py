"""The scenarios that have a name: those of the package, and those of plug-ins.

Nothing heavy is loaded to list them. A plug-in is an installed package that says in its metadata
where its scenario files stand: an entry point of the group ``gpuyard.scenarios`` that names a
package with ``*.toml`` files in its folder. Theirs are called ``ENTRY/NAME``::

    [project.entry-points."gpuyard.scenarios"]
    mylab = "mylab.scenarios"        # mylab/scenarios/night.toml is mylab/night
"""

from __future__ import annotations

import difflib
import importlib.util
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

FOLDER = Path(__file__).parent / "scenarios"
GROUP = "gpuyard.scenarios"
"""Entry points of plug-ins."""


def names() -> list[str]:
    """Return the names of all scenarios, those of the package first."""
    own = sorted(path.stem for path in FOLDER.glob("*.toml"))
    return own + sorted(name for name, _ in _of_plug_ins())


def path_of(name: str) -> Path:
    """Return the file of a scenario by its name.

    Raises:
        ValueError: there is none of that name.
    """
    path = FOLDER / f"{name}.toml"
    if "/" not in name and path.exists():
        return path
    found = dict(_of_plug_ins()).get(name)
    if found is not None:
        return found
    close = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(
        f"scenario {name!r} is unknown; {hint}choose one of {', '.join(names())}, or give the "
        "path of a .toml file"
    )


def described(path: Path) -> str:
    """Return what a scenario file says of itself; "" where it says nothing that can be read."""
    try:
        said = tomllib.loads(path.read_text("utf-8")).get("description", "")
    except (OSError, ValueError):
        return ""
    return said if isinstance(said, str) else ""


def _of_plug_ins() -> Iterator[tuple[str, Path]]:
    """Yield the scenarios of installed plug-ins by name."""
    for entry in entry_points(group=GROUP):
        spec = importlib.util.find_spec(entry.module)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for path in sorted(Path(folder).glob("*.toml")):
                yield f"{entry.name}/{path.stem}", path
