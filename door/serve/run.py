"""Start the server: its address, TLS and time limits. No torch."""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from cropfirst.core.errors import BundleError, DoorError
from cropfirst.door.bundle import Bundle
from cropfirst.door.crop_folder import CropFolder
from cropfirst.door.serve.access import LOCAL, Access, read_keys
from cropfirst.door.serve.app import Service, make_app
from cropfirst.door.serve.health import Health
from cropfirst.door.serve.limits import ServeLimits
from cropfirst.door.serve.protocols import HttpProtocol, StreamProtocol
from cropfirst.door.web.folder import page_files

SHUTDOWN_SECONDS = 5
NO_TLS = (
    "Photos and keys can be read on the network: put a proxy with TLS before this server, or give "
    "--tls-cert and --tls-key."
)


@dataclass(frozen=True)
class Address:
    """The address that a server listens on, and who may ask."""

    host: str = "127.0.0.1"
    port: int = 8000
    """0 = any free one."""
    allowed_hosts: Sequence[str] = ()
    """Further names by which it may be called."""
    api_key_file: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def access(self) -> Access:
        """Return the rules of the server.

        Raises:
            DoorError: other machines can reach it, and no key or name is given, or a file is
                missing.
        """
        if self.tls_cert is not None and self.tls_key is None:
            raise DoorError(f"--tls-cert {self.tls_cert} needs its private key: --tls-key FILE")
        if self.tls_key is not None and self.tls_cert is None:
            raise DoorError(f"--tls-key {self.tls_key} needs its certificate: --tls-cert FILE")
        for path in (self.tls_cert, self.tls_key):
            if path is not None and not path.is_file():
                raise DoorError(f"there is no file {path}")
        if not self.is_local and self.api_key_file is None:
            raise DoorError(
                f"--host {self.host} can be reached by other machines: give --api-key-file FILE, "
                "whose keys the requests must have"
            )
        if self.host in ("0.0.0.0", "::") and not self.allowed_hosts:  # nosec B104
            raise DoorError(
                f"--host {self.host} does not say how the server is called: give --allow-host NAME"
            )
        names = {*LOCAL, self.host, *self.allowed_hosts}
        keys = () if self.api_key_file is None else read_keys(self.api_key_file)
        return Access(frozenset(name.lower().strip("[]") for name in names), keys)


class Server:
    """A server that is bound to its address, and runs until it is stopped."""

    def __init__(
        self, folder: Path, address: Address, limits: ServeLimits, *,
        review: Path | None = None, threads: int | None = None,
    ) -> None:  # fmt: skip
        """Open the bundle and bind the address.

        Args:
            review: folder with the crops to label.

        Raises:
            BundleError: there is no bundle in `folder`, or it cannot be used.
            DoorError: the address is taken, or needs more options, or the crops are of other tasks.
        """
        access = address.access()
        logging.getLogger("python_multipart").setLevel(logging.ERROR)  # it warns of broken forms
        bundle = Bundle.open(folder, threads=threads)
        crops = None if review is None else CropFolder(review, list(bundle.tasks))
        service = Service(bundle, Health(bundle, folder), limits, crops)
        self.notes: list[str] = []
        app = make_app(service, access, page=self._page(folder))
        config = uvicorn.Config(
            app, http=HttpProtocol, ws=StreamProtocol, lifespan="on", log_config=None,
            log_level="critical", access_log=False, server_header=False, proxy_headers=False,
            ws_max_size=limits.max_bytes, ws_max_queue=2, ws_per_message_deflate=False,
            limit_concurrency=8 * limits.max_requests, timeout_keep_alive=5,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
            ssl_certfile=address.tls_cert, ssl_keyfile=address.tls_key,
        )  # fmt: skip
        self.uvicorn = uvicorn.Server(config)
        self._socket = _bind(address.host, address.port)
        self.url = _url(address, self._socket.getsockname()[1])
        if not address.is_local and address.tls_cert is None:
            self.notes.append(NO_TLS)

    def run(self) -> None:
        """Serve until a signal comes, or `stop` is called."""
        self.uvicorn.run(sockets=[self._socket])

    def stop(self) -> None:
        """Let `run` end after the requests that are being answered."""
        self.uvicorn.should_exit = True

    def close(self) -> None:
        """Release the address of a server that does not run."""
        self._socket.close()

    def _page(self, folder: Path) -> dict[str, bytes]:
        try:
            return page_files(folder)
        except BundleError as error:
            self.notes.append(f"There is no page: {error}")
            return {}


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only for sockets that state their protocol; with it, the
    # end of each answer waited 40 ms for the client's acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
        return listener
    except OSError as error:
        listener.close()
        raise DoorError(
            f"cannot listen on {host} port {port}: {error.strerror}; choose another with --port"
        ) from error


def _url(address: Address, port: int) -> str:
    scheme = "http" if address.tls_cert is None else "https"
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{scheme}://{host}:{port}/"
