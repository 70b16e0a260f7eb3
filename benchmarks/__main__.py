"""`python -m benchmarks`: run them and write `benchmarks/results/latest.{md,json}`.

With names only those: `python -m benchmarks memory interactive`. Memory takes a quarter of an hour
and needs the test data, so it runs by name alone.
"""

from __future__ import annotations

import json
import platform
import sys
from importlib import import_module
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"
USUAL = ("served", "bulk", "interactive", "heads")
ALL = (*USUAL, "memory")


def main(names: list[str]) -> None:
    if unknown := sorted(set(names) - set(ALL)):
        sys.exit(f"no benchmark {unknown[0]!r}; there are {', '.join(ALL)}")
    chosen = [import_module(f"benchmarks.{name}") for name in names or USUAL]
    rows = [row for benchmark in chosen for row in benchmark.run()]
    RESULTS.mkdir(exist_ok=True)
    title = (
        f"offshelf benchmarks: {platform.machine()}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, Python {platform.python_version()}"
    )
    lines = [f"# {title}", "", "| what | figure |", "|---|---|"]
    lines += [f"| {row.what} | {row.figure} |" for row in rows]
    text = "\n".join(lines) + "\n"
    print(text)
    (RESULTS / "latest.md").write_text(text)
    (RESULTS / "latest.json").write_text(
        json.dumps({"machine": title, "rows": {row.what: row.value for row in rows}}, indent=2)
        + "\n"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
