"""The user's npm settings: the registry, proxy, certificates and login that a package comes with.

They are read from npm's files and variables, and npm itself need not be there.
"""

import base64
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

PUBLIC_REGISTRY = "https://registry.npmjs.org/"
_PREFIX = "npm_config_"
_VARIABLE = re.compile(r"\$\{([^${}?]+)(\??)\}")


@dataclass(frozen=True, slots=True)
class NpmSettings:
    """npm's settings by name, as ``https-proxy`` or ``//npm.example.org/:_authToken``."""

    values: Mapping[str, str]
    node_certificates: str | None = None

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> Self:
        """Read what npm would read outside of a project; a file that is not there has none."""
        of_environ = dict(_of_environ(environ))
        values: dict[str, str] = {}
        for path in (_global_file(of_environ, environ), _user_file(of_environ)):
            with suppress(OSError, UnicodeDecodeError):
                values |= _of_file(path.read_text(encoding="utf-8-sig"), environ)
        return cls(values | of_environ, environ.get("NODE_EXTRA_CA_CERTS"))

    def registry_of(self, package: str) -> str:
        """The registry of the package's scope, or the one for all packages; ends with a slash."""
        scope = package.partition("/")[0]
        chosen = self.values.get(f"{scope}:registry") or self.values.get("registry")
        return (chosen or PUBLIC_REGISTRY).rstrip("/") + "/"

    def proxy_for(self, url: str) -> str | None:
        """The proxy that npm's settings name for ``url``; that of the environment is not asked."""
        if self.bypasses_proxy(url):
            return None
        for_http = self.values.get("proxy")
        chosen = for_http
        if urlsplit(url).scheme == "https":
            chosen = self.values.get("https-proxy") or for_http
        return None if chosen in (None, "", "null", "false") else chosen

    def bypasses_proxy(self, url: str) -> bool:
        """Return whether npm's ``noproxy`` names the host or a domain that it is in."""
        host = urlsplit(url).hostname or ""
        names = [name.strip().lstrip(".") for name in self.values.get("noproxy", "").split(",")]
        return any(name and f".{host}".endswith(f".{name}") for name in names)

    def login_for(self, url: str) -> dict[str, str]:
        """The header with the login for ``url``; npm stores each login with the place it is for."""
        for place in _places(url):
            if token := self.values.get(f"{place}:_authToken"):
                return {"authorization": f"Bearer {token}"}
            if basic := self.values.get(f"{place}:_auth"):
                return {"authorization": f"Basic {basic}"}
            user = self.values.get(f"{place}:username")
            password = self.values.get(f"{place}:_password")
            if user and password:
                login = f"{user}:".encode() + base64.b64decode(password)
                return {"authorization": f"Basic {base64.b64encode(login).decode()}"}
        return {}

    @property
    def checks_certificates(self) -> bool:
        return self.values.get("strict-ssl") != "false"

    def certificates(self) -> list[Path]:
        """The files of authorities that are trusted beside those of the system."""
        named = (self.values.get("cafile"), self.node_certificates)
        return [Path(name) for name in named if name not in (None, "", "null")]


def _places(url: str) -> Iterator[str]:
    """The places of ``url`` from the longest on: ``//host/path/``, ``//host/``."""
    parts = urlsplit(url)
    path = parts.path.rpartition("/")[0]
    while True:
        yield f"//{parts.netloc}{path}/"
        if not path:
            return
        path = path.rpartition("/")[0]


def _of_environ(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """NPM_CONFIG_HTTPS_PROXY is ``https-proxy``; a name with a host or scope stays as it is."""
    for name, text in environ.items():
        if text and name.lower().startswith(_PREFIX):
            rest = name[len(_PREFIX) :]
            yield (rest if rest[:1] in "/@" else rest.lower().replace("_", "-")), text


def _user_file(of_environ: Mapping[str, str]) -> Path:
    named = of_environ.get("userconfig")
    with suppress(RuntimeError):  # no home, as in a container
        return Path(named) if named else Path.home() / ".npmrc"
    return Path(os.devnull)


def _global_file(of_environ: Mapping[str, str], environ: Mapping[str, str]) -> Path:
    if named := of_environ.get("globalconfig"):
        return Path(named)
    if sys.platform == "win32":
        return Path(environ.get("APPDATA", ""), "npm", "etc", "npmrc")
    npm = shutil.which("npm", path=environ.get("PATH"))
    return Path(npm).parent.parent / "etc" / "npmrc" if npm else Path("/usr/local/etc/npmrc")


def _of_file(text: str, environ: Mapping[str, str]) -> dict[str, str]:
    values = {}
    for line in map(str.strip, text.splitlines()):
        name, equals, value = line.partition("=")
        if equals and line[0] not in ";#[":
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
                value = value[1:-1]
            values[name.strip()] = _VARIABLE.sub(lambda found: _variable(found, environ), value)
    return values


def _variable(found: re.Match[str], environ: Mapping[str, str]) -> str:
    """``${NAME}`` stays as it is where the variable is not set, and ``${NAME?}`` is empty then."""
    return environ.get(found[1], "" if found[2] else found[0])
