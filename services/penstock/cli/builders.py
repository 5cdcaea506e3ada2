"""The six services by name, imported when they are wanted. Nowhere else do they meet."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from penstock.cli.connecting import service_named
from penstock.contracts.errors import StartupError
from penstock.contracts.subjects import SERVICES
from penstock.infra.host import Build


def builders(names: Iterable[str] = SERVICES) -> dict[str, Build]:
    """How to build each named service.

    Raises StartupError for a name that is none, or when a service's extra is not installed.
    """
    return {name: _builder(service_named(name)) for name in names}


def _builder(name: str) -> Build:
    try:
        build: Build = import_module(f"penstock.{name}.service").build
    except ImportError as error:
        raise StartupError(
            f"The service {name} needs {error.name}: pip install 'penstock[{name}]'."
        ) from error
    return build
