"""`factory-sim ui`: the whole simulator as a page in a browser."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from factory_sim.errors import InputError, Problem

if TYPE_CHECKING:
    from factory_sim.app.settings import Settings

LOCAL = "127.0.0.1"

ACCENT = "#0072B2"
ACCENT_IN_THE_DARK = "#56B4E9"
"""The blues of the report's plots."""


def ui(
    host: Annotated[
        str,
        typer.Option(metavar="ADDRESS", help="To listen at; any other than this lets others in."),
    ] = LOCAL,
    port: Annotated[int, typer.Option(min=1, max=65_535, metavar="N")] = 8501,
    longest: Annotated[
        str, typer.Option(metavar="TIME", help="The most simulated time of a run.")
    ] = "24 h",
    most_gpus: Annotated[
        int, typer.Option(min=1, metavar="N", help="The most GPUs of a site.")
    ] = 100_000,
    upload: Annotated[
        int, typer.Option(min=1, metavar="MB", help="The largest file that may be sent.")
    ] = 50,
    patience: Annotated[
        str, typer.Option(metavar="TIME", help="The most that a run may take; then it is ended.")
    ] = "15 min",
    memory: Annotated[
        float, typer.Option(min=1.0, metavar="GB", help="The most memory of a run.")
    ] = 8.0,
    at_once: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Runs at the same time; others wait. By default one for each core.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Open the simulator as a page for a browser: change a site, run it, look into it, compare.

    Needs pip install 'factory_sim[app]'. Nothing is fetched from the network or sent to it.
    """
    if importlib.util.find_spec("streamlit") is None or importlib.util.find_spec("plotly") is None:
        said = "the page needs streamlit and plotly; install them with: pip install '.[app]'"
        raise InputError(Problem("ui", said))
    if os.name != "posix":
        raise InputError(Problem("ui", "the page needs Linux or macOS; take WSL on Windows"))
    from factory_sim.app.settings import VARIABLE, Settings

    _check_free(host, port)
    times = _seconds("--longest", longest), _seconds("--patience", patience)
    root = tempfile.mkdtemp(prefix="factory-sim-ui-")
    own = Settings(
        root,
        times[0],
        most_gpus,
        upload,
        times[1],
        memory,
        at_once or os.cpu_count() or 1,
    )
    os.environ[VARIABLE] = own.told()
    try:
        _serve(own, host, port)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _seconds(option: str, text: str) -> float:
    from factory_sim.units import parse

    try:
        found = parse(text, "s", "15 min")
    except ValueError as error:
        raise InputError(Problem(option, str(error))) from None
    if found <= 0.0:
        raise InputError(Problem(option, "must be above 0 s"))
    return found


def _check_free(host: str, port: int) -> None:
    """Raise InputError unless somebody may listen there."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind((host, port))
    except OSError as error:
        why = error.strerror or str(error)
        said = f"cannot listen at {host}, port {port}: {why}; take another --port, or --host"
        raise InputError(Problem("--port", said)) from None


def _serve(own: Settings, host: str, port: int) -> None:
    from streamlit.web import bootstrap

    import factory_sim.app
    from factory_sim.app.jobs import warm_up

    threading.Thread(target=warm_up, daemon=True).start()
    options = {
        "server_address": host,
        "server_port": port,
        "server_headless": True,
        "server_fileWatcherType": "none",
        "server_maxUploadSize": own.upload_mb,
        "browser_gatherUsageStats": False,
        "browser_serverAddress": host,
        "logger_hideWelcomeMessage": True,
        "logger_level": "warning",
        "theme_light_primaryColor": ACCENT,
        "theme_dark_primaryColor": ACCENT_IN_THE_DARK,
        "client_toolbarMode": "minimal",
        "client_showErrorDetails": "none",
        "client_showErrorLinks": False,
    }
    script = str(Path(factory_sim.app.__file__).with_name("main.py"))
    bootstrap.load_config_options(options)
    print(f"http://{host}:{port} (Ctrl-C ends it)", flush=True)
    bootstrap.run(script, False, [], options)
