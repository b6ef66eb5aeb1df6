"""A real Elasticsearch for the tests: one node, from the archive that Maven Central has.

`make test` fetches the archive into .cache/elasticsearch; so does this module where Maven is there.
Elasticsearch refuses to run as root: then it is started as the user `nobody`.
"""

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.ports import free_ports

__all__ = ["Elasticsearch", "missing", "running"]

_ROOT: Final = Path(__file__).parents[2]
_FOLDER: Final = _ROOT / ".cache" / "elasticsearch"
_POM: Final = Path(__file__).parent / "elastic" / "pom.xml"
_USER: Final = "nobody"
_START_S: Final = 90
_STOP_S: Final = 30
_REQUEST_S: Final = 30

_SETTINGS: Final = """
cluster.name: streamtable-tests
discovery.type: single-node
xpack.security.enabled: false
http.host: 127.0.0.1
http.port: {port}
transport.host: 127.0.0.1
transport.port: {transport}
path.data: {folder}/data
path.logs: {folder}/logs
cluster.routing.allocation.disk.threshold_enabled: false
"""


def missing() -> str | None:
    """Say why Elasticsearch can't be started here; None if it can."""
    if shutil.which("java") is None:
        return "Elasticsearch needs Java, and there is no 'java' on the path"
    if not _homes() and shutil.which("mvn") is None:
        return f"Elasticsearch is not in {_FOLDER}, and there is no 'mvn' to fetch it"
    if os.geteuid() == 0 and not _user_can_read(_ROOT):
        return f"Elasticsearch does not run as root, and the user {_USER} can't read {_ROOT}"
    return None


class Elasticsearch:
    """One node in processes of its own, on a folder of its own.

    Attributes:
        url: where it answers, `http://127.0.0.1:port`.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._home = _homes()[-1]
        port, transport = free_ports(2)
        self.url = f"http://127.0.0.1:{port}"
        config = folder / "config"
        shutil.copytree(self._home / "config", config)
        settings = _SETTINGS.format(port=port, transport=transport, folder=folder)
        (config / "elasticsearch.yml").write_text(settings)
        for name in ("data", "logs", "tmp"):
            (folder / name).mkdir()
        if os.geteuid() == 0:
            _give_away(folder)

    def start(self) -> None:
        """Start the node and wait until it answers and its shards are there.

        Raises:
            RuntimeError: it ended, or did not answer in time; with the end of what it said.
        """
        memory = "-Xms512m -Xmx512m -XX:TieredStopAtLevel=1"
        environment = {
            "PATH": os.environ["PATH"],
            "LC_ALL": "C",
            "ES_JAVA_HOME": str(_java_home()),
            "ES_JAVA_OPTS": memory,
            "ES_PATH_CONF": str(self._folder / "config"),
            "ES_TMPDIR": str(self._folder / "tmp"),
            "CLI_JAVA_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx64m",
        }
        user: dict[str, Any] = {}
        if os.geteuid() == 0:
            found = pwd.getpwnam(_USER)
            user = {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
        with (self._folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                ["bash", str(self._home / "bin" / "elasticsearch")],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                cwd=self._folder,
                # The launcher and the server in a group of their own, to be paused together.
                start_new_session=True,
                **user,
            )
        limit = time.monotonic() + _START_S
        while time.monotonic() < limit and self._process.poll() is None:
            with contextlib.suppress(OSError):
                self.call("GET", "/_cluster/health?wait_for_status=yellow&timeout=20s")
                return
            time.sleep(0.1)  # a process can't be awaited to listen
        self.kill()
        said = (self._folder / "output").read_text(errors="replace")[-3000:]
        raise RuntimeError(f"Elasticsearch did not start: {said}")

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Return the JSON that a request is answered with.

        Raises:
            OSError: there was no answer, or one with an error's status.
        """
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=_REQUEST_S) as answer:
            return json.load(answer)

    def documents(self, index: str) -> dict[str, Any]:
        """Return every document of an index by its id; {} where there is no such index."""
        found: dict[str, Any] = {}
        after: list[Any] | None = None
        try:
            self.call("POST", f"/{index}/_refresh")
            while True:
                body: dict[str, Any] = {"size": 5000, "sort": ["_doc"], "version": True}
                if after is not None:
                    body["search_after"] = after
                hits = self.call("POST", f"/{index}/_search", body)["hits"]["hits"]
                if not hits:
                    return found
                found |= {hit["_id"]: hit["_source"] for hit in hits}
                after = hits[-1]["sort"]
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return {}

    def pause(self) -> None:
        """Stop its processes where they are: connections stay, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the processes that were paused go on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, as a power cut does; `start` brings it back."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def stop(self) -> None:
        """Stop the node."""
        if self._process is None:
            return
        self._signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def running() -> Iterator[Elasticsearch]:
    """Run a node for a fixture; the test is skipped where that is not possible."""
    reason = missing()
    if reason is not None:
        pytest.skip(reason)
    _fetch()
    # Not in pytest's folder: only the user that runs it gets in there.
    with tempfile.TemporaryDirectory(prefix="elasticsearch-") as folder:
        node = Elasticsearch(Path(folder))
        try:
            node.start()
            yield node
        finally:
            node.stop()


def _homes() -> list[Path]:
    return sorted(_FOLDER.glob("elasticsearch-*/"))


def _fetch() -> None:
    if _homes():
        return
    fetched = _FOLDER.with_name(f"elasticsearch.{os.getpid()}")
    subprocess.run(
        ["mvn", "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies",
         f"-DoutputDirectory={fetched}"],
        check=True,
    )  # fmt: skip
    [archive] = fetched.glob("*.zip")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(fetched)
    archive.unlink()
    _FOLDER.parent.mkdir(exist_ok=True)
    shutil.rmtree(_FOLDER, ignore_errors=True)
    fetched.rename(_FOLDER)


def _java_home() -> Path:
    java = shutil.which("java")
    assert java is not None
    return Path(java).resolve().parents[1]


def _user_can_read(folder: Path) -> bool:
    """Whether the user that Elasticsearch is run as exists and gets into a folder."""
    try:
        pwd.getpwnam(_USER)
    except KeyError:
        return False
    return all(each.stat().st_mode & 0o005 == 0o005 for each in (folder, *folder.parents))


def _give_away(folder: Path) -> None:
    """Make the user that Elasticsearch is run as the owner of its folder."""
    found = pwd.getpwnam(_USER)
    for each in (folder, *folder.rglob("*")):
        os.chown(each, found.pw_uid, found.pw_gid)
