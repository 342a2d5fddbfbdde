"""Who may do what: the `[dynat]` part of `.streamlit/secrets.toml`, roles, limits, and how far a server can be reached.

    [auth]                                 # Streamlit's own: with it, nobody gets past the sign-in page unknown
    [dynat]
    editors = ["ada@uni.edu"]              # may start, stop, label, delete and add
    viewers = ["*@uni.edu"]                # may look, and have paths computed; everybody else sees nothing
    [dynat.limits]                         # of each person; of all together where nobody signs in
    waiting = 100

No Streamlit here: the doctor reads the same file.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from dynat_core.errors import ConfigError

Role = Literal["editor", "viewer", "stranger", "unknown"]
LOCAL_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost")
GUARDED = "DYNAT_GUARDED"  # set where something else keeps strangers out, such as a proxy with a password
_PLACE = ".streamlit/secrets.toml"


@dataclass(frozen=True)
class Limits:
    """What one person may ask for. waiting: runs and measurements in the queue; upload_mb: size of a file, in MB;
    analysis_s: seconds that one answer may take to compute."""

    waiting: int = 100
    upload_mb: int = 200
    analysis_s: int = 300


@dataclass(frozen=True)
class Access:
    """editors, viewers: addresses, `*` stands for anything. unverified: believe addresses that the provider has not
    verified."""

    sign_in: bool = False
    providers: tuple[str, ...] = ()
    editors: tuple[str, ...] = ()
    viewers: tuple[str, ...] = ()
    unverified: bool = False
    limits: Limits = Limits()

    def role(self, user: Mapping[str, Any]) -> Role:
        """What somebody with these claims may do: "unknown" has not signed in, "stranger" is on neither list.

        Without sign-in everybody is an editor, as whoever sits at the machine.
        """
        if not self.sign_in:
            return "editor"
        if user.get("is_logged_in") is not True:
            return "unknown"
        email = user.get("email")
        if not isinstance(email, str) or not _is_address(email):
            return "stranger"
        if not self.unverified and user.get("email_verified") is not True:
            return "stranger"
        if _listed(email, self.editors):
            return "editor"
        return "viewer" if _listed(email, self.viewers) else "stranger"


def read(secrets: Mapping[str, Any]) -> Access:
    """The rules in the content of secrets.toml. Raises ConfigError: what cannot be read must let nobody in."""
    auth, found = secrets.get("auth"), secrets.get("dynat", {})
    if not isinstance(found, Mapping):
        raise _wrong("dynat must be a part of its own, [dynat]")
    unknown = sorted(set(found) - {"editors", "viewers", "unverified", "limits"})
    if unknown:
        raise _wrong(f"[dynat] has no {unknown[0]}; there is editors, viewers, unverified and [dynat.limits]")
    providers = [str(k) for k, v in auth.items() if isinstance(v, Mapping)] if isinstance(auth, Mapping) else []
    unverified = found.get("unverified", False)
    if not isinstance(unverified, bool):
        raise _wrong("dynat.unverified must be true or false")
    people = {name: _people(name, found.get(name, [])) for name in ("editors", "viewers")}
    if any(people.values()) and not auth:  # a slip such as [Auth] must not make everybody an editor
        raise _wrong(
            "[dynat] names people and [auth] is missing or empty, so nobody could sign in; fill in [auth] "
            "(docs/sign-in.md), or take the names away"
        )
    limits = _limits(found.get("limits", {}))
    return Access(bool(auth), tuple(providers), **people, unverified=unverified, limits=limits)


def secret_files(folders: Iterable[Path]) -> list[Path]:
    """Where Streamlit looks for secrets: in the home folder, then in each of `folders`; later ones win."""
    return list(dict.fromkeys(Path(folder).absolute() / _PLACE for folder in (Path.home(), *folders)))


def read_files(files: Iterable[Path | str]) -> Access:
    """The rules in these files, of which any may be missing. Raises ConfigError for one that cannot be read."""
    together: dict[str, Any] = {}
    for file in map(Path, files):
        try:
            together |= tomllib.loads(file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            continue
        except (OSError, ValueError) as error:  # damaged, or not ours to read
            raise ConfigError(
                f"{file} cannot be read, so it is not known who may do what here; mend it, or remove it."
            ) from error
    return read(together)


def configured_address(folders: Iterable[Path]) -> str | None:
    """The address that a server would listen on, from the environment or else from each folder's config.toml, of which
    later ones win; None for all addresses. Raises ConfigError."""
    found: str | None = None
    for file in (Path(folder) / ".streamlit" / "config.toml" for folder in folders):
        try:
            server = tomllib.loads(file.read_text(encoding="utf-8")).get("server", {})
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            raise ConfigError(f"{file} cannot be read; mend it, or remove it.") from error
        found = server.get("address", found) if isinstance(server, Mapping) else found
    return os.environ.get("STREAMLIT_SERVER_ADDRESS") or found


def is_local(address: str | None) -> bool:
    """Whether a server that listens on `address` (None: on all of them) can be reached from this machine alone."""
    if not address:
        return False
    if address.startswith("unix://") or address.lower().rstrip(".") in LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return False


def guarded() -> bool:
    """Whether whoever started the server said that something else keeps strangers out."""
    return os.environ.get(GUARDED, "") not in ("", "0")


def exposed(address: str | None, access: Access) -> bool:
    """Whether anybody who can reach the machine may do anything."""
    return not (is_local(address) or access.sign_in or guarded())


def exposure_words(address: str | None) -> str:
    """What to say where that is so."""
    everywhere = (None, "", "0.0.0.0", "::")  # noqa: S104 (what is warned of)
    where = "all addresses" if address in everywhere else address
    return (
        f"Anybody who can reach {where} of this machine can start, stop and delete runs here: nobody has to sign in. "
        "Listen on localhost, or set up sign-in (docs/sign-in.md)."
    )


def _limits(found: Any) -> Limits:
    if not isinstance(found, Mapping):
        raise _wrong("dynat.limits must be a part of its own, [dynat.limits]")
    known = [field.name for field in fields(Limits)]
    for name, value in found.items():
        if name not in known:
            raise _wrong(f"[dynat.limits] has no {name}; there is {', '.join(known)}")
        if type(value) is not int or value < 1:
            raise _wrong(f"dynat.limits.{name} must be a whole number of 1 or more")
    return replace(Limits(), **found)


def _people(name: str, found: Any) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(one, str) and one.strip() for one in found):
        raise _wrong(f'dynat.{name} must be a list of addresses, such as ["ada@uni.edu", "*@uni.edu"]')
    return tuple(one.strip().casefold() for one in found)


def _listed(email: str, patterns: Iterable[str]) -> bool:
    """Only `*` means anything in a pattern: `?` and `[` are letters of addresses."""
    return any(fnmatchcase(email.casefold(), one.replace("[", "[[]").replace("?", "[?]")) for one in patterns)


def _is_address(email: str) -> bool:
    """One @ and nothing odd: `a@evil.org, b@uni.edu` would end like an address of the university."""
    return email.isascii() and email.isprintable() and email.count("@") == 1 and not set(email) & set(' ,;<>"()\\')


def _wrong(what: str) -> ConfigError:
    return ConfigError(f"secrets.toml: {what}.")
