"""The one module that reads the environment: every setting, its unit and its default."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


def _default_data_dir() -> Path:
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(home) / "offshelf"


class Settings(BaseSettings):
    """Every setting, read from `OFFSHELF_<NAME>`; docs/settings.md lists them.

    An empty variable counts as one that is not set.
    """

    model_config = SettingsConfigDict(
        env_prefix="OFFSHELF_", env_ignore_empty=True, extra="ignore", frozen=True
    )

    # Where things are.
    data_dir: Path = Field(default_factory=_default_data_dir)
    redis_url: str | None = None
    store_url: str | None = None
    cache_url: str | None = None
    cache_bytes: int = Field(1 << 30, ge=0)
    weights_dir: Path | None = None
    weights_mirror: str | None = None
    offline: bool = False

    # Folders and s3:// prefixes that datasets may be registered from, separated by commas.
    dataset_sources: str = ""

    # The server. Loopback unless told otherwise: there is no authentication yet.
    host: str = "127.0.0.1"
    port: int = Field(8765, ge=0, le=65535)
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    # Set by `offshelf serve` for the processes it starts: they end when it is gone.
    parent_pid: int | None = None

    # Limits of a request.
    max_image_bytes: int = Field(32 << 20, gt=0)
    max_image_pixels: int = Field(64_000_000, gt=0)
    max_request_bytes: int = Field(256 << 20, gt=0)
    max_request_images: int = Field(1024, gt=0)
    max_archive_bytes: int = Field(8 << 30, gt=0)
    max_archive_files: int = Field(2_000_000, gt=0)
    max_queued_images: int = Field(4096, gt=0)
    max_client_images: int = Field(2048, gt=0)
    max_bulk_images: int = Field(10_000_000, gt=0)
    max_open_jobs: int = Field(1000, gt=0)
    max_answer_bytes: int = Field(1 << 30, gt=0)
    request_deadline_s: float = Field(120.0, gt=0)

    # The device and its batches.
    device: str = "auto"
    default_backbone: str = "embednet"
    preload: str = ""
    decode_threads: int = Field(default_factory=lambda: min(8, os.cpu_count() or 2), gt=0)
    max_batch: int = Field(64, gt=0)
    linger_ms: float = Field(4.0, ge=0)
    bulk_batch_ms: float = Field(50.0, gt=0)
    max_inflight_images: int = Field(256, gt=0)
    max_device_bytes: int | None = Field(None, gt=0)
    max_host_bytes: int | None = Field(None, ge=0)
    max_resident: int = Field(16, gt=0)

    # Jobs.
    shard_images: int = Field(64, gt=0)
    job_ttl_s: int = Field(7 * 86_400, gt=0)
    max_attempts: int = Field(4, gt=0)
    heartbeat_timeout_s: float = Field(15.0, gt=0)
    maintenance_chance: int = Field(200_000, ge=1, le=1_000_000)
    train_timeout_s: float = Field(3_600.0, gt=0)
    drain_s: float = Field(60.0, gt=0)
    worker_beat_s: float = Field(1.0, gt=0)

    @property
    def resolved_store_url(self) -> str:
        """The store's URL: as set, or a folder of the data directory."""
        return self.store_url or (self.data_dir.absolute() / "store").as_uri()

    @property
    def preload_names(self) -> list[str]:
        """Backbones to load at start."""
        return [name.strip() for name in self.preload.split(",") if name.strip()]

    @property
    def dataset_roots(self) -> list[str]:
        """Where datasets may be registered from."""
        return [root.strip() for root in self.dataset_sources.split(",") if root.strip()]

    @property
    def hub_cache(self) -> Path:
        """Where torch keeps downloaded weights (`torch.hub.get_dir()/checkpoints`), sans torch."""
        cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        home = os.environ.get("TORCH_HOME") or str(Path(cache) / "torch")
        return Path(home).expanduser() / "hub" / "checkpoints"

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, for a child process."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        return {
            f"OFFSHELF_{name.upper()}": str(value)
            for name, value in values.items()
            if value is not None
        }
