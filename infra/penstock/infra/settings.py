"""Every setting, read from the environment in one place. Never anything that is not a setting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec

from penstock.contracts.errors import InvalidMessage, StartupError
from penstock.contracts.subjects import Subjects
from penstock.infra.endings.rules import parse

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
SECRET = ("nats_url", "secret")
VARIABLE = "PENSTOCK_"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The system's settings; the variable of `http_port` is PENSTOCK_HTTP_PORT, and so on."""

    data: Annotated[str, msgspec.Meta(description="directory of the embedded system")] = ".penstock"
    prefix: Annotated[str, msgspec.Meta(description="first token of every subject")] = "penstock"
    nats_url: Annotated[
        str, msgspec.Meta(description="NATS server(s); empty: `penstock up` runs its own")
    ] = ""
    nats_creds: Annotated[str, msgspec.Meta(description="path of a .creds file")] = ""
    nats_port: Annotated[Port, msgspec.Meta(description="the own server's port; 0: any free")] = 0
    nats_server: Annotated[
        str, msgspec.Meta(description="path of the nats-server; empty: the installed one")
    ] = ""
    http_host: Annotated[str, msgspec.Meta(description="address to listen on")] = "127.0.0.1"
    http_port: Annotated[Port, msgspec.Meta(description="port to listen on; 0: any free")] = 8471
    durability: Annotated[
        Literal["fsync", "os"],
        msgspec.Meta(
            description="fsync: on disk before acknowledged; os: in the system's hands, "
            "a power failure may lose the last two minutes"
        ),
    ] = "fsync"
    replicas: Annotated[
        int,
        msgspec.Meta(
            ge=1,
            le=5,
            description="copies of every stream, each on a server of its own: 3 outlive the loss "
            "of any one server of a cluster; 1 for a single server",
        ),
    ] = 1
    retention: Annotated[
        str,
        msgspec.Meta(
            description="how long finished work stays in the log before it goes to the archive: "
            "SERVICE=AGE or SERVICE.STATE=AGE, comma-separated; empty: for ever"
        ),
    ] = "progress=90d,jobs=90d,exports=90d"
    retention_interval: Annotated[
        float, msgspec.Meta(ge=1, description="seconds between two looks for what is to go there")
    ] = 600.0
    archive_memory: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            description="days that the log remembers what went there, so that its id leads to it; "
            "after that only a search of the archive does; 0: for ever",
        ),
    ] = 90.0
    result_age: Annotated[
        float,
        msgspec.Meta(
            ge=0,
            description="days that results of jobs above 64 KB are kept; 0: as long as the job",
        ),
    ] = 0.0
    result_count: Annotated[
        int,
        msgspec.Meta(
            ge=0, description="how many such results are kept of each job name, the newest; 0: all"
        ),
    ] = 0
    unhandled_grace: Annotated[
        float,
        msgspec.Meta(
            gt=0,
            description="seconds after which jobs fail that no worker can do, if they asked so",
        ),
    ] = 60.0
    secret: Annotated[
        str, msgspec.Meta(description="signs access tokens; empty: one kept in the data directory")
    ] = ""
    allowed_origins: Annotated[
        str, msgspec.Meta(description="web origins that may open a WebSocket, comma-separated")
    ] = ""
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], msgspec.Meta(description="least level logged")
    ] = "info"
    log_format: Annotated[
        Literal["text", "json"], msgspec.Meta(description="json: one object a line")
    ] = "text"
    drain_seconds: Annotated[
        float, msgspec.Meta(ge=0, le=600, description="longest time to finish work on SIGTERM")
    ] = 20.0

    @property
    def data_path(self) -> Path:
        """The data directory, absolute."""
        return Path(self.data).expanduser().absolute()

    def shown(self) -> dict[str, Any]:
        """Variable to value, secrets hidden."""
        return {
            variable(name): "(set)" if name in SECRET and value else value
            for name, value in msgspec.structs.asdict(self).items()
        }


def variable(field: str) -> str:
    """The environment variable of a setting."""
    return VARIABLE + field.upper()


def descriptions() -> dict[str, str]:
    """Variable to what it is for."""
    hints = get_type_hints(Settings, include_extras=True)
    return {
        variable(f.name): next(
            m.description for m in reversed(hints[f.name].__metadata__) if m.description
        )
        for f in msgspec.structs.fields(Settings)
    }


def read_settings(environ: Mapping[str, str]) -> Settings:
    """The settings in `environ`. Raises StartupError that names the variable and what it takes."""
    hints = get_type_hints(Settings, include_extras=True)
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(Settings):
        text = environ.get(variable(field.name))
        if text is None:
            continue
        try:
            found[field.name] = msgspec.convert(text, hints[field.name], strict=False)
        except msgspec.ValidationError as error:
            shown = "(hidden)" if field.name in SECRET else repr(text)
            raise StartupError(
                f"{variable(field.name)} is {shown}: {error}; correct it or leave it out."
            ) from error
    _check("prefix", Subjects, found)
    _check("retention", parse, found)
    return Settings(**found)


def _check(field: str, read: Callable[[str], object], found: Mapping[str, Any]) -> None:
    try:
        read(found.get(field, getattr(Settings(), field)))
    except InvalidMessage as error:
        raise StartupError(f"{variable(field)}: {error}") from error
