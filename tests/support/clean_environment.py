"""Python environment with the named packages and their requirements only."""

from __future__ import annotations

import venv
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def make(directory: Path, packages: Iterable[str]) -> Path:
    """Create an environment in `directory` and return its interpreter.

    The packages are links to the installed ones: nothing is downloaded or copied. Raises
    `importlib.metadata.PackageNotFoundError` for a package that is not installed.
    """
    venv.create(directory, with_pip=False, symlinks=True)
    (site,) = (directory / "lib").glob("python*/site-packages")
    for package in _with_requirements(packages):
        for entry in sorted({Path(str(file)).parts[0] for file in package.files or ()} - {".."}):
            source = Path(str(package.locate_file(entry)))
            if source.exists() and not (site / entry).exists():
                (site / entry).symlink_to(source)
    return directory / "bin" / "python"


def _with_requirements(packages: Iterable[str]) -> Iterator[Distribution]:
    """Yield the packages and all their requirements, without extras, each once."""
    waiting, seen = list(packages), set[str]()
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in seen:
            continue
        seen.add(name)
        package = distribution(name)
        yield package
        for text in package.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
