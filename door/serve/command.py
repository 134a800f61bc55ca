"""`serve`: a bundle behind HTTP. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from cropfirst.core.stopping import Terminated, exit_code
from cropfirst.door.serve.limits import ServeLimits

FILE = click.Path(dir_okay=False, path_type=Path)
PACKAGES = ("starlette", "uvicorn", "websockets", "python_multipart", "prometheus_client")
"""Packages that the extra `serve` brings."""


def limit_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each limit."""
    for each in reversed(fields(ServeLimits)):
        kind: click.ParamType = (
            click.IntRange(min=1) if isinstance(each.default, int) else click.FloatRange(min=0.001)
        )
        name = f"--{each.name.replace('_', '-')}"
        text = each.metadata["help"]
        command = click.option(name, type=kind, default=each.default, show_default=True, help=text)(
            command
        )
    return command


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True,
    help="Port; 0 = any free one.",
)  # fmt: skip
@click.option(
    "--allow-host", multiple=True, metavar="NAME",
    help="Further name by which the server may be called; can be repeated.",
)  # fmt: skip
@click.option("--api-key-file", type=FILE, help="Keys, one a line, that requests must have.")
@click.option("--tls-cert", type=FILE, help="Certificate chain (PEM).")
@click.option("--tls-key", type=FILE, help="Private key of the certificate (PEM).")
@click.option(
    "--review", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER",
    help="Also show the crops that watch --keep-doubtful has kept, to label them.",
)  # fmt: skip
@limit_options
@click.option("--threads", type=click.IntRange(min=1), help="Threads.  [default: one per core]")
def serve(
    folder: Path, host: str, port: int, allow_host: Sequence[str], api_key_file: Path | None,
    tls_cert: Path | None, tls_key: Path | None, review: Path | None, threads: int | None,
    **limits: Any,
) -> None:  # fmt: skip
    """Serve the page of a bundle, and its predictions over HTTP.

    DIR is the folder that export wrote. Only this machine can reach the server unless --host says
    otherwise, which needs --api-key-file. An upload is never written to disk, and no request can
    name a file or an address. /docs describes the requests. With --review FOLDER, /review is a page
    to label the crops of doubtful tracks by keys, with the classes of the bundle.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise click.ClickException(
            f"serve needs {', '.join(missing)}: pip install 'cropfirst[serve]'"
        )
    from cropfirst.door.serve.run import Address, Server

    address = Address(host, port, allow_host, api_key_file, tls_cert, tls_key)
    server = Server(folder, address, ServeLimits(**limits), review=review, threads=threads)
    click.echo(f"serving {folder} on {server.url} (Ctrl-C ends it; /docs says what it answers)")
    if review is not None:
        click.echo(f"crops to label: {server.url}review/")
    for note in server.notes:
        click.echo(note, err=True)
    code = 0
    try:
        server.run()
    except (KeyboardInterrupt, Terminated) as stop:
        code = exit_code(stop)
    click.echo("stopped", err=True)
    click.get_current_context().exit(code)
