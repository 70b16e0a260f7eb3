"""Whether workers are ready, and whether backbones give what they should."""

from __future__ import annotations

from typing import Any, Literal

from offshelf.schemas.base import ErrorBody, Strict


class SelfCheck(Strict):
    """One check of a self-test: what was measured, and up to what it passes."""

    name: str
    status: Literal["passed", "failed", "skipped"]
    measured: float | None = None
    tolerance: float | None = None
    detail: str = ""


class SelfTestReport(Strict):
    """The self-test of a backbone on a worker; `error` where it could not be run."""

    worker: str = ""
    host: str = ""
    backbone: str
    weights: str = ""
    weights_digest: str = ""
    device: str = ""
    passed: bool
    checks: list[SelfCheck] = []
    error: ErrorBody | None = None


class SelfTestAnswer(Strict):
    """The answer of `GET /v1/selftest`: a report of every live worker."""

    passed: bool
    reports: list[SelfTestReport]


class Health(Strict):
    """The answer of `/readyz`: who is ready, and why anyone is not."""

    status: Literal["ready", "not_ready"]
    reasons: list[str] = []
    workers: list[dict[str, Any]] = []
    queued_images: int | None = None
