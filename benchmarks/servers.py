"""The servers that the bench compares: how each is installed and started."""

import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "CACHE",
    "PEERS",
    "ROOT",
    "Server",
    "Unavailable",
    "streamtable",
    "streamtable_at",
    "streamtable_workers",
]

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "bench"

DYNALITE = "4.0.0"
DYNOXIDE = "3.2.0"
MOTO = "5.2.5"


class Unavailable(RuntimeError):
    """A server can't be measured on this machine; the message says what is missing."""


@dataclass(frozen=True)
class Server:
    """One server to measure.

    Attributes:
        name: what the tables call it.
        command: the command line for a port and an empty folder of its own.
        environment: variables it is started with, besides the caller's.
        workers: how many processes have the shards between them.
        pinned: whether it has one core, and the load generator another; else both have all.
    """

    name: str
    command: Callable[[int, Path], list[str]]
    environment: dict[str, str]
    workers: int = 1
    pinned: bool = True


def _tool(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        message = f"{name} is not installed"
        raise Unavailable(message)
    return path


def _install(*command: str | Path) -> None:
    try:
        subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout or "").strip().splitlines()
        message = f"{' '.join(map(str, command))} failed: {lines[-1] if lines else error}"
        raise Unavailable(message) from error


def _streamtable(name: str, environment: dict[str, str]) -> Server:
    start = "from streamtable.cli import main; main()"

    def command(port: int, folder: Path) -> list[str]:
        options = ["--port", str(port), "--broker-port", "0", "--data", str(folder)]
        return [sys.executable, "-c", start, "serve", *options]

    return Server(name, command, environment)


def streamtable() -> Server:
    """Return the server of this work tree."""
    return _streamtable("streamtable", {})


def streamtable_workers(count: int) -> Server:
    """Return the server of this work tree in so many processes."""
    alone = streamtable()

    def command(port: int, folder: Path) -> list[str]:
        return [*alone.command(port, folder), "--workers", str(count)]

    return Server(f"{count} workers", command, alone.environment, count, pinned=False)


def streamtable_at(revision: str) -> Server:
    """Return the server as it was at a git revision, on the dependencies installed now.

    Raises:
        Unavailable: git does not know the revision.
    """
    describe = ["git", "rev-parse", "--short", f"{revision}^{{commit}}"]
    found = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode:
        message = f"git does not know {revision}: {found.stderr.strip()}"
        raise Unavailable(message)
    commit = found.stdout.strip()
    tree = CACHE / "revisions" / commit
    if not tree.exists():
        packed = tree.with_suffix(".tar")
        tree.parent.mkdir(parents=True, exist_ok=True)
        _install("git", "-C", ROOT, "archive", "--output", packed, commit)
        with tarfile.open(packed) as archive:
            archive.extractall(tree, filter="data")
        packed.unlink()
    # The four folders joined as an installation joins them; it comes before the installed one.
    joined = tree / ".joined" / "streamtable"
    joined.mkdir(parents=True, exist_ok=True)
    folders = [tree / "core", tree / "streams", tree / "consumers"]
    for path in [*(tree / "streamtable").iterdir(), *folders]:
        link = joined / path.name
        if not link.is_symlink():
            link.symlink_to(path)
    return _streamtable(commit, {"PYTHONPATH": str(joined.parent)})


def moto() -> Server:
    """Return moto's server: the mock most Python projects test with; in memory."""
    folder = CACHE / f"moto-{MOTO}"
    program = folder / "bin" / "moto_server"
    if not program.exists():
        _install(sys.executable, "-m", "venv", folder)
        _install(folder / "bin" / "pip", "install", "--quiet", f"moto[server,dynamodb]=={MOTO}")
    return Server("moto", lambda port, _: [str(program), "-H", "127.0.0.1", "-p", str(port)], {})


def dynalite() -> Server:
    """Return dynalite, a DynamoDB on LevelDB in Node.js; in memory, its default."""
    node, npm = _tool("node"), _tool("npm")
    folder = CACHE / f"dynalite-{DYNALITE}"
    program = folder / "node_modules" / "dynalite" / "cli.js"
    if not program.exists():
        _install(npm, "install", "--silent", "--prefix", folder, f"dynalite@{DYNALITE}")
    options = ["--host", "127.0.0.1", "--createTableMs", "0", "--deleteTableMs", "0"]
    return Server(
        "dynalite", lambda port, _: [node, str(program), *options, "--port", str(port)], {}
    )


def _dynoxide() -> str:
    folder = CACHE / f"dynoxide-{DYNOXIDE}"
    program = folder / "bin" / "dynoxide"
    if not program.exists():
        features = "native-sqlite,http-server,cli"
        options = ["--locked", "--no-default-features", "--features", features]
        _install(
            _tool("cargo"),
            "install",
            "dynoxide-rs",
            "--version",
            DYNOXIDE,
            *options,
            "--root",
            folder,
        )
    return str(program)


def dynoxide_memory() -> Server:
    """Return dynoxide, a DynamoDB on SQLite in Rust; in memory."""
    program = _dynoxide()
    return Server(
        "dynoxide-memory", lambda port, _: [program, "--port", str(port), "--log", "quiet"], {}
    )


def dynoxide_disk() -> Server:
    """Return dynoxide with its database in a file."""
    program = _dynoxide()
    return Server(
        "dynoxide-disk",
        lambda port, folder: [
            *(program, "--port", str(port), "--log", "quiet"),
            *("--db-path", str(folder / "dynoxide.db")),
        ],
        {},
    )


PEERS: dict[str, Callable[[], Server]] = {
    "streamtable": streamtable,
    "dynoxide-disk": dynoxide_disk,
    "dynoxide-memory": dynoxide_memory,
    "dynalite": dynalite,
    "moto": moto,
}
