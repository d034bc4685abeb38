"""The RabbitMQ of this machine, or one unpacked from Debian's packages."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from api_shared.testing.servers.errors import ServiceUnavailable
from api_shared.testing.servers.programs.cache import cache_lock
from api_shared.testing.servers.programs.debian import PackageSource, unpack
from api_shared.testing.servers.rabbitmq.node import RabbitProgram
from api_shared.testing.servers.server import OnStep

_SCRIPTS = "usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"
_WRAPPER_TEXT = b"/usr/lib/rabbitmq/bin/"


def find_rabbitmq(on_step: OnStep) -> RabbitProgram:
    """An installed RabbitMQ, the cached one, or one fetched now (some 35 MB, under a minute)."""
    return _installed() or _from_packages(on_step)


def _installed() -> RabbitProgram | None:
    """Debian's wrapper on PATH insists on its own account; the script behind it does not."""
    found = shutil.which("rabbitmq-server")
    if found is not None and _WRAPPER_TEXT not in Path(found).read_bytes()[:20_000]:
        return RabbitProgram(script=Path(found))
    script = next(iter(sorted(Path("/").glob(_SCRIPTS))), None)
    if script is not None and shutil.which("erl") is not None:
        return RabbitProgram(script=script, erlang_bin=_existing(Path("/usr/lib/erlang/bin")))
    return None


def _from_packages(on_step: OnStep) -> RabbitProgram:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    system = release.get("VERSION_CODENAME") or release.get("VERSION_ID") or "unknown"
    label = f"rabbitmq-{release.get('ID', 'linux')}-{system}-{platform.machine()}"
    with cache_lock(
        label, on_wait=lambda: on_step("waiting for another start that fetches RabbitMQ")
    ) as cache:
        tree = cache / label
        if not tree.is_dir():
            source = PackageSource.here()
            if source is None:
                raise ServiceUnavailable(
                    "rabbitmq",
                    "neither RABBITMQ_URL is set nor is rabbitmq-server on PATH, and there is no "
                    "apt-get to fetch it with",
                    remedy="set the variable, install RabbitMQ, or start Docker",
                )
            unpack(
                tree,
                source,
                service="rabbitmq",
                package="rabbitmq-server",
                family="erlang-",
                prepare=_make_movable,
                on_step=on_step,
            )
    script = next(iter(tree.glob(_SCRIPTS)), None)
    if script is None:
        raise ServiceUnavailable(
            "rabbitmq",
            f"{tree} holds no rabbitmq-server",
            remedy="remove that folder, or set RABBITMQ_URL",
        )
    libraries = {str(path.parent) for path in tree.glob("**/lib*.so.*") if path.is_file()}
    return RabbitProgram(
        script=script,
        erlang_bin=tree / "usr/lib/erlang/bin",
        library_path=":".join(sorted(libraries)) or None,
    )


def _make_movable(tree: Path) -> None:
    """Erlang's start script names the folder it was packaged for: let it ask where it lies."""
    script = tree / "usr/lib/erlang/bin/erl"
    packaged = "ROOTDIR=/usr/lib/erlang\n"
    text = script.read_text(encoding="utf-8")
    if packaged not in text:
        raise ServiceUnavailable(
            "rabbitmq",
            "this release packages Erlang in a way that is not known here",
            remedy="install rabbitmq-server, or set RABBITMQ_URL",
        )
    here = 'ROOTDIR=$(dirname "$(dirname "$(readlink -f "$0")")")\n'
    script.write_text(text.replace(packaged, here), encoding="utf-8")


def _existing(folder: Path) -> Path | None:
    return folder if folder.is_dir() else None
