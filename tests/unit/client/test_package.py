"""The SDK as a package: what it exports, what it imports, and that its sync half is current."""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import offshelf_client

CLIENT = Path(__file__).parents[3] / "clients" / "python"


def test_all_is_sorted_and_lists_every_public_name() -> None:
    names = [n for n in offshelf_client.__all__ if n != "__version__"]
    public = [
        name
        for name, value in vars(offshelf_client).items()
        if not name.startswith("_") and not inspect.ismodule(value) and name != "annotations"
    ]
    assert offshelf_client.__all__ == sorted(offshelf_client.__all__)
    assert set(names) == set(public)


def test_all_modules_are_private() -> None:
    modules = {path.stem for path in (CLIENT / "offshelf_client").glob("*.py")}
    assert all(name.startswith("_") for name in modules)


def test_sync_half_is_generated_from_the_async_half() -> None:
    spec = importlib.util.spec_from_file_location("generate_sync", CLIENT / "generate_sync.py")
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    wanted = generator.generate()
    found = {p.name: p.read_text() for p in (CLIENT / "offshelf_client" / "_sync").glob("*.py")}
    assert found == wanted
    assert not re.search(r"\basync (def|for|with)|\bawait\b|Async[A-Z]", "".join(wanted.values()))


def test_importing_the_sdk_imports_neither_the_service_nor_anything_heavy() -> None:
    heavy = {"offshelf", "torch", "PIL", "pydantic", "sklearn"}
    code = f"import sys, offshelf_client; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_public_method_has_an_example() -> None:
    from offshelf_client import AsyncClient

    with_methods = [AsyncClient("http://x"), *vars(AsyncClient("http://x")).values()]
    kinds = {type(thing) for thing in with_methods if type(thing).__module__.startswith("offshelf")}
    kinds.discard(type(AsyncClient("http://x")._transport))
    missing = [
        f"{kind.__name__}.{name}"
        for kind in kinds
        for name, method in vars(kind).items()
        if not name.startswith("_") and name != "aclose" and "Example" not in (method.__doc__ or "")
    ]
    assert missing == []
