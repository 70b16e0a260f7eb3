"""Writes `offshelf_client/_sync` from `offshelf_client/_async`; `--check` only compares.

Run it after a change in `_async`: `python clients/python/generate_sync.py`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

PACKAGE = Path(__file__).parent / "offshelf_client"

NAMES = {
    "AsyncBaseTransport": "BaseTransport",
    "AsyncClient": "Client",
    "AsyncDatasets": "Datasets",
    "AsyncFeatureSet": "FeatureSet",
    "AsyncFeatureSets": "FeatureSets",
    "AsyncHead": "Head",
    "AsyncHeads": "Heads",
    "AsyncJob": "Job",
    "AsyncJobs": "Jobs",
    "AsyncSearch": "Search",
    "AsyncTransforms": "Transforms",
    "AsyncTransport": "Transport",
    "_async": "_sync",
    "_io_async": "_io_sync",
    "aclose": "close",
    "aclosing": "closing",
    "aiter_lines": "iter_lines",
    "aiter_bytes": "iter_bytes",
    "aread": "read",
}

# What the rules above leave: prose and examples in docstrings, and types of callables.
PROSE = (
    (re.compile(r"\bawait "), ""),
    (re.compile(r"\basync with\b"), "with"),
    (re.compile(r"\bAsyncClient\b"), "Client"),
    (re.compile(r" +# noqa: ASYNC\d+ .*"), ""),
    (re.compile(r"\bAwaitable\[(\w+)\]"), r"\1"),
)

HEADER = "# Generated from _async by generate_sync.py; edit there.\n"


def generate() -> dict[str, str]:
    """The text of every file of `_sync`, by its name."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "_async"
        source.mkdir()
        for module in (PACKAGE / "_async").glob("*.py"):
            (source / module.name).write_text(module.read_text())
        rule = unasync.Rule("/_async/", "/_sync/", NAMES)
        unasync.unasync_files([str(path) for path in source.glob("*.py")], [rule])
        written = sorted((Path(folder) / "_sync").glob("*.py"))
        return {path.name: formatted(path.read_text()) for path in written}


def formatted(text: str) -> str:
    """Clear the prose of async, and format as the rest of the repository is."""
    for pattern, replacement in PROSE:
        text = pattern.sub(replacement, text)
    for command in (["check", "--select", "I,F401", "--fix", "--quiet"], ["format", "--quiet"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename"]
        name = str(PACKAGE / "_sync" / "module.py")
        text = subprocess.run(  # noqa: S603  # our own formatter on our own text
            [*ruff, name, "-"], input=text, text=True, capture_output=True, check=True, timeout=60
        ).stdout
    return HEADER + text


def main() -> int:
    """Write the files, or with `--check` say which differ."""
    wanted = generate()
    target = PACKAGE / "_sync"
    found = {path.name: path.read_text() for path in target.glob("*.py")}
    if "--check" in sys.argv:
        stale = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
        print("\n".join(f"stale: {name}" for name in stale) or "up to date")  # noqa: T201  # a tool
        return 1 if stale else 0
    target.mkdir(exist_ok=True)
    for name in found.keys() - wanted.keys():
        (target / name).unlink()
    for name, text in wanted.items():
        (target / name).write_text(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
