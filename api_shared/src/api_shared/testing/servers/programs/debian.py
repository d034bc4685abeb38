"""
Debian packages as a source of programs: fetched and unpacked, never installed.

This needs no root and does not change the system's package lists: apt has a state of its own in a
temporary folder. It uses the configured sources of the machine, and checks what it fetches as
always.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from api_shared.testing.servers.errors import ServiceUnavailable
from api_shared.testing.servers.server import OnStep

_DEADLINE_S = 300.0
_ONLY_DEPENDS = [
    f"--no-{kind}"
    for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
]


@dataclass(frozen=True, kw_only=True)
class PackageSource:
    """apt and dpkg of this machine."""

    apt_get: str
    apt_cache: str
    dpkg_deb: str

    @staticmethod
    def here() -> PackageSource | None:
        """None where this is not a Debian or one of its descendants."""
        found = [shutil.which(name) for name in ("apt-get", "apt-cache", "dpkg-deb")]
        apt_get, apt_cache, dpkg_deb = found
        if apt_get is None or apt_cache is None or dpkg_deb is None:
            return None
        return PackageSource(apt_get=apt_get, apt_cache=apt_cache, dpkg_deb=dpkg_deb)


def unpack(
    target: Path,
    source: PackageSource,
    *,
    service: str,
    package: str,
    family: str,
    prepare: Callable[[Path], None],
    on_step: OnStep,
) -> None:
    """
    Unpack `package`, what it needs of its `family` (a prefix of names), and the libraries that
    those need and this machine lacks, to `target`.

    `target` appears whole or not at all; `prepare` may change the tree before that.
    """
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="unpacking-") as name:
        work = Path(name)
        apt = _Apt(work, source, service)
        on_step(f"reading the package lists for {package}")
        apt.run(source.apt_get, "update")
        packages = apt.closure(package, family)
        on_step(f"fetching {package} and {len(packages) - 1} packages it needs")
        debs = work / "debs"
        debs.mkdir()
        apt.run(source.apt_get, "download", *packages, cwd=debs)
        on_step(f"unpacking {package}")
        tree = work / "tree"
        for deb in sorted(debs.glob("*.deb")):
            apt.run(source.dpkg_deb, "-x", str(deb), str(tree), configured=False)
        prepare(tree)
        tree.chmod(0o755)
        tree.rename(target)


class _Apt:
    """apt with all of its state in one folder."""

    def __init__(self, work: Path, source: PackageSource, service: str) -> None:
        self._source = source
        self._service = service
        self._work = work
        for folder in ("lists/partial", "cache/archives/partial"):
            (work / folder).mkdir(parents=True)
        self._config = work / "apt.conf"
        # Read after the machine's own configuration, whose hooks would touch the system's caches.
        self._config.write_text(
            f'Dir::State::Lists "{work}/lists";\n'
            f'Dir::Cache "{work}/cache";\n'
            'APT::Sandbox::User "root";\n'
            'Acquire::Languages "none";\n'
            'Acquire::Retries "3";\n'
            "#clear APT::Update::Pre-Invoke;\n"
            "#clear APT::Update::Post-Invoke;\n"
            "#clear APT::Update::Post-Invoke-Success;\n",
            encoding="utf-8",
        )

    def closure(self, package: str, family: str) -> list[str]:
        """`package`, its family, and the libraries of the family that are not installed."""
        kin = [name for name in self._needs([package]) if name.startswith(family)]
        return [package, *kin, *self._missing_libraries(kin)]

    def _needs(self, packages: Sequence[str]) -> list[str]:
        """All that `packages` depend on, however far. Lines without indent are package names."""
        if not packages:
            return []
        text = self.run(self._source.apt_cache, "depends", "--recurse", *_ONLY_DEPENDS, *packages)
        return sorted(
            {line for line in text.splitlines() if line[:1].isalnum() and ":" not in line}
        )

    def _missing_libraries(self, packages: Sequence[str]) -> list[str]:
        """The libraries that apt would install for `packages` on this machine."""
        arguments = ["--simulate", "--no-install-recommends", "install", *packages]
        lines = self.run(self._source.apt_get, *arguments).splitlines()
        added = {line.split()[1] for line in lines if line.startswith("Inst ")}
        return sorted(name for name in added if name.startswith("lib"))

    def run(
        self, program: str, *arguments: str, cwd: Path | None = None, configured: bool = True
    ) -> str:
        """Standard output; ServiceUnavailable with the last words of its errors if it fails."""
        options = ["-c", str(self._config), "-q"] if configured else []
        try:
            done = subprocess.run(
                [program, *options, *arguments],
                cwd=cwd or self._work,
                env={**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_DEADLINE_S,
                check=True,
            )
        except subprocess.TimeoutExpired:
            raise self._failure(f"{arguments[0]} took over {_DEADLINE_S:.0f} s", "") from None
        except subprocess.CalledProcessError as error:
            tail = "\n".join(str(error.stderr).splitlines()[-5:])
            raise self._failure(f"{Path(program).name} {arguments[0]} failed", tail) from error
        return done.stdout

    def _failure(self, what: str, tail: str) -> ServiceUnavailable:
        return ServiceUnavailable(
            self._service,
            f"it is not installed, and could not be fetched ({what})",
            remedy=f"check the network, install it, or set {self._service.upper()}_URL",
            log_tail=tail,
        )
