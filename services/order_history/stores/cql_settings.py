"""Where a CQL store is and how to speak to it, from one address as people put it into config:

scylla://[USER[:PASSWORD]@]HOST[:PORT][,HOST[:PORT]...]/KEYSPACE[?OPTION=VALUE&...]
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

SCHEMES: Final = ("scylla", "cassandra")
PORT: Final = 9042
CONSISTENCIES: Final = ("ONE", "QUORUM", "LOCAL_ONE", "LOCAL_QUORUM", "ALL")
_NAME_LENGTH_MAX: Final = 48
_LOGIN_RULE: Final = (
    "what is not a letter, a digit or one of - . _ ~ is written as %XX in USER and PASSWORD, as is an @ in an option"
)


@dataclass(frozen=True, slots=True)
class CqlSettings:
    """A CQL store's address. ``hosts`` are some of its nodes, (host, port) each, all with the same port; the others are asked of
    them.

    ``consistency``: of reads and writes. ``datacenter``: the nearest one (None: that of the first host that answers).
    ``replication_factor``: copies of each row in a new keyspace (None: 3, or 1 on fewer than three nodes).
    ``timeout_seconds``: how long one request may take. ``requests_max``: writes at once. ``safe_seconds``: after how long a write
    that was acknowledged is surely on disk (a server's periodic commit log syncs every 10 s by default).
    """

    hosts: tuple[tuple[str, int], ...]
    keyspace: str
    username: str = ""
    password: str = field(default="", repr=False)
    consistency: str = "LOCAL_QUORUM"
    datacenter: str | None = None
    replication_factor: int | None = None
    tls: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    timeout_seconds: float = 5.0
    requests_max: int = 128
    safe_seconds: float = 60.0

    def __str__(self) -> str:
        """The address without its password."""
        user = f"{self.username}@" if self.username else ""
        return f"scylla://{user}{','.join(f'{host}:{port}' for host, port in self.hosts)}/{self.keyspace}"


def parse_cql_address(address: str) -> CqlSettings:
    """The settings that the address says. Raises ValueError naming the part, the rule and the value, but never a password."""
    try:
        parts = urlsplit(address)
    except ValueError:
        # Its text may have the password in it.
        raise ValueError(_LOGIN_RULE) from None
    if parts.scheme not in SCHEMES:
        raise ValueError(f"a CQL store's address begins with scylla:// or cassandra://, this one with {parts.scheme!r}")
    if "@" in parts.path + parts.query + parts.fragment:
        raise ValueError(_LOGIN_RULE)
    login, _, places = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    keyspace = parts.path.strip("/")
    if not (keyspace.replace("_", "").isalnum() and keyspace.isascii() and len(keyspace) <= _NAME_LENGTH_MAX):
        raise ValueError(f"the keyspace must be a name of letters, digits and _, at most {_NAME_LENGTH_MAX}, is {keyspace!r}")
    hosts = tuple(_host(place) for place in places.split(","))
    if len({port for _, port in hosts}) > 1:
        raise ValueError(f"all hosts must have the same port, for one is not told of the others' ports, are {places!r}")
    options = {name: _option(name, value) for name, value in parse_qsl(parts.query, keep_blank_values=True)}
    if (options.keys() & {"tls_ca", "tls_cert", "tls_key"}) and not options.get("tls"):
        raise ValueError("tls_ca, tls_cert and tls_key need tls=true")
    if ("tls_cert" in options) is not ("tls_key" in options):
        raise ValueError("tls_cert and tls_key go together")
    return CqlSettings(hosts, keyspace.lower(), unquote(username), unquote(password), **options)


def without_password(address: str) -> str:
    """The address, also one that cannot be parsed, with *** in the place of USER:PASSWORD, for people to see."""
    return re.sub(r"^(['\"]?(?:\w+://)?).*@", r"\1***@", address, flags=re.DOTALL)


def _host(place: str) -> tuple[str, int]:
    split = urlsplit(f"//{place}")
    try:
        host, port = split.hostname, split.port or PORT
    except ValueError as error:
        raise ValueError(f"a host must be HOST or HOST:PORT, is {place!r}: {error}") from error
    if not host:
        raise ValueError(f"a host must be HOST or HOST:PORT, is {place!r}")
    return host, port


def _truth(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError("must be true or false")
    return text == "true"


def _choice(text: str) -> str:
    if text.upper() not in CONSISTENCIES:
        raise ValueError(f"must be one of {', '.join(CONSISTENCIES)}")
    return text.upper()


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise ValueError("must be a whole number of at least 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError("must be a number of seconds of at least 0")
    return seconds


def _duration(text: str) -> float:
    if not _seconds(text):
        raise ValueError("must be more than 0 seconds")
    return _seconds(text)


_OPTIONS: Final[dict[str, Callable[[str], Any]]] = {
    "consistency": _choice,
    "datacenter": str,
    "replication_factor": _count,
    "tls": _truth,
    "tls_ca": Path,
    "tls_cert": Path,
    "tls_key": Path,
    "timeout_seconds": _duration,
    "requests_max": _count,
    "safe_seconds": _seconds,
}
assert _OPTIONS.keys() < {each.name for each in fields(CqlSettings)}


def _option(name: str, value: str) -> Any:
    if name not in _OPTIONS:
        raise ValueError(f"there is no option {name!r}: the options are {', '.join(_OPTIONS)}")
    try:
        return _OPTIONS[name](value)
    except ValueError as error:
        raise ValueError(f"the option {name} {error}, is {value!r}") from None
