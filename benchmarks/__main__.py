"""`python -m benchmarks`: run them all and write `benchmarks/results/latest.{md,json}`."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import torch

from benchmarks import heads, served

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    rows = [*served.run(), *heads.run()]
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
    main()
