"""`offshelf serve`, `api`, `worker`, `health`, `demo`: running the service, or parts of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from offshelf.settings import Settings

Host = Annotated[
    str | None, typer.Option(help="Address to listen on; loopback: there is no authentication.")
]
Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on [8765].")]
DataDir = Annotated[
    Path | None, typer.Option(help="Where datasets, features, heads and the queue are kept.")
]
RedisUrl = Annotated[
    str | None, typer.Option(help="Redis or Valkey; a private server is started when left out.")
]
StoreUrl = Annotated[
    str | None, typer.Option(help="Object store (file://, s3://); in the data folder if not.")
]
WeightsDir = Annotated[Path | None, typer.Option(help="Folder with weight files.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N [auto].")]
DefaultBackbone = Annotated[
    str | None, typer.Option(help="The backbone of requests that name none.")
]
Preload = Annotated[
    str | None, typer.Option(help="Backbones to load at start, separated by commas.")
]
HealthUrl = Annotated[
    str | None,
    typer.Option(
        help="Address of the service; OFFSHELF_URL or the host and port of the settings if not.",
        metavar="URL",
        envvar="OFFSHELF_URL",
        show_envvar=False,
    ),
]
LogLevel = Annotated[str | None, typer.Option(help="debug, info, warning, error [info].")]


def serve(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    store_url: StoreUrl = None,
    weights_dir: WeightsDir = None,
    device: Device = None,
    default_backbone: DefaultBackbone = None,
    preload: Preload = None,
    log_level: LogLevel = None,
) -> None:
    """Run everything on this machine: queue server, worker and API.

    Every setting is also an environment variable, OFFSHELF_<NAME>; options win.
    """
    settings = settings_with(
        host=host,
        port=port,
        data_dir=data_dir,
        redis_url=redis_url,
        store_url=store_url,
        weights_dir=weights_dir,
        device=device,
        default_backbone=default_backbone,
        preload=preload,
        log_level=log_level,
    )
    from offshelf import bootstrap

    bootstrap.serve(settings)


def api(
    host: Host = None,
    port: Port = None,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    store_url: StoreUrl = None,
    log_level: LogLevel = None,
) -> None:
    """Run the HTTP API alone; it needs no torch."""
    settings = settings_with(
        host=host,
        port=port,
        data_dir=data_dir,
        redis_url=redis_url,
        store_url=store_url,
        log_level=log_level,
    )
    from offshelf import bootstrap

    bootstrap.run_api(settings)


def worker(
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
    store_url: StoreUrl = None,
    weights_dir: WeightsDir = None,
    device: Device = None,
    default_backbone: DefaultBackbone = None,
    preload: Preload = None,
    log_level: LogLevel = None,
) -> None:
    """Run one worker, which owns one device."""
    settings = settings_with(
        data_dir=data_dir,
        redis_url=redis_url,
        store_url=store_url,
        weights_dir=weights_dir,
        device=device,
        default_backbone=default_backbone,
        preload=preload,
        log_level=log_level,
    )
    from offshelf import bootstrap

    raise typer.Exit(bootstrap.run_worker(settings))


def health(
    live: Annotated[
        bool, typer.Option("--live", help="Ask only whether the API's process is there.")
    ] = False,
    worker: Annotated[
        bool, typer.Option("--worker", help="Ask for a ready worker on this host, without the API.")
    ] = False,
    url: HealthUrl = None,
) -> None:
    """Exit with 0 if the service is ready, with 1 if it is not."""
    settings = settings_with()
    if worker:
        from offshelf import bootstrap

        bootstrap.worker_health(settings)
    else:
        from offshelf_client import Client, Retry, Timeout

        address = url or own_address(settings.host, settings.port)
        with Client(address, timeout=Timeout(read=10.0), retry=Retry(attempts=1)) as client:
            client.health(live=live)
    typer.echo("ok")


def demo(
    data_dir: Annotated[
        Path, typer.Option(help="Kept between runs, so that the next one is faster.")
    ] = Path(".offshelf/demo"),
    backbone: Annotated[
        str | None, typer.Option(help="A backbone with taps fc6 and fc7; the default if not.")
    ] = None,
) -> None:
    """Show the main job on real images, with a service of its own."""
    from offshelf.demo import run

    run(data_dir, backbone)


def own_address(host: str, port: int) -> str:
    """Where this machine reaches an API that listens on `host`, which may mean everywhere."""
    reached = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # nothing is bound here
    return f"http://[{reached}]:{port}" if ":" in reached else f"http://{reached}:{port}"


def settings_with(**given: Any) -> Settings:
    """The settings of the environment, with the options that were given in their place.

    A value that is no good is a usage error, whichever of the two it came from.
    """
    from pydantic import ValidationError

    from offshelf.settings import Settings

    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise typer.BadParameter("; ".join(wrong)) from error
