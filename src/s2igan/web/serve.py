"""Runs the page until it is interrupted."""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import replace
from pathlib import Path

from s2igan.errors import UserError


def serve(
    model: str | Path,
    *,
    data: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    examples: Path | None = None,
    per_minute: int | None = None,
    device: str | None = None,
) -> None:
    """Serves a model on a page, to this machine alone unless `host` says otherwise.

    Args:
        model: run directory, or the name of a shipped model.
        data: prepared corpus whose nearest pictures are shown.
        host: address to listen on; 0.0.0.0 is every network that the machine is in.
        examples: folder with recordings and examples.json (docs/serving.md); models of the built-in birds have some.
        per_minute: requests that one address may send in a minute.

    Raises:
        UserError: the extra `web` is not installed, the model, corpus or examples cannot be read, or the
            port is taken.
    """
    try:
        import uvicorn

        from s2igan.web.app import EXAMPLES, LOOPBACK, Server, make_app
    except ImportError as error:
        raise UserError(f"the page needs the extra web ({error}): pip install 's2igan[web]'.") from error
    from s2igan.finding import Finder
    from s2igan.pipeline import SpeechToImage
    from s2igan.web.limits import Limits

    loaded = SpeechToImage.load(model, device)
    loaded.check_hears()
    finder = None
    if data is not None:
        finder = Finder.load(model, data, device=device)
        finder.prepare()
    limits = Limits() if per_minute is None else replace(Limits(), per_minute=per_minute)
    if examples is None and loaded.exported is not None and "birds" in loaded.exported.recipe:
        examples = EXAMPLES
    server = Server(loaded, Path(model).name, finder, limits, examples)
    app = make_app(server, hosts=LOOPBACK if is_loopback(host) else ("*",))
    config = uvicorn.Config(app, log_level="warning", server_header=False, timeout_keep_alive=5)
    try:
        listening = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"--host {host} --port {port}: cannot listen there ({reason}); choose another.") from error
    shown = f"[{host}]" if ":" in host else host
    print(f"Open http://{shown}:{listening.getsockname()[1]} in a browser; Ctrl-C ends it.", flush=True)
    if not is_loopback(host):
        print(
            f"Listening on {host}: whoever reaches this machine may use it. Browsers give the microphone only to pages "
            "of https or of this machine itself; put a proxy with a certificate in front.",
            flush=True,
        )
    uvicorn.Server(config).run(sockets=[listening])


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
