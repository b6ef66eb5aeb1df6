"""The topics of the broker: names, ids, configurations, partitions, and where they are on disk.

`topics.journal` says which topics there are; a folder that it does not name is none, and is left
alone unless it is marked as deleted. A topic is durable before its creation is answered.
"""

import base64
import contextlib
import logging
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from streamtable.streams.broker import disk
from streamtable.streams.broker.codes import Code
from streamtable.streams.broker.configs import InvalidConfig, LogConfig, validate
from streamtable.streams.broker.journal import Journal
from streamtable.streams.broker.log import PartitionLog
from streamtable.streams.broker.settings import BrokerSettings

__all__ = ["Topic", "TopicError", "Topics"]

logger = logging.getLogger(__name__)

_NAME: Final = re.compile(r"[a-zA-Z0-9._-]{1,249}")
_DELETED: Final = "~deleted"
_PRODUCERS_KEPT_MS: Final = 24 * 3_600_000


class TopicError(ValueError):
    """A request about a topic that can't be carried out.

    Attributes:
        code: what the client is answered, with the message.
    """

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Topic:
    """One topic.

    Attributes:
        name: its name.
        id: its id, never given twice.
        configs: what it sets itself.
        config: the numbers that follow from that.
        partitions: its logs by number.
    """

    def __init__(
        self,
        name: str,
        topic_id: uuid.UUID,
        configs: dict[str, str],
        settings: BrokerSettings,
    ) -> None:
        self.name = name
        self.id = topic_id
        self.configs = configs
        self.config = LogConfig(settings, configs)
        self.partitions: list[PartitionLog] = []
        self.starts: dict[int, int] = {}

    def record(self, partitions: int | None = None) -> dict[str, Any]:
        """Say everything about the topic, for the journal."""
        return {
            "topic": self.name,
            "id": self.id.hex,
            "configs": self.configs,
            "partitions": len(self.partitions) if partitions is None else partitions,
            "starts": {str(index): start for index, start in self.starts.items()},
        }


class Topics:
    """All topics of a broker.

    Args:
        settings: the broker's settings.
        threads: what waits for the disk.
        fences: the newest epoch of each transactional producer.
    """

    def __init__(
        self, settings: BrokerSettings, threads: disk.Disk, fences: dict[int, int]
    ) -> None:
        self._settings = settings
        self._disk = threads
        self._fences = fences
        self._folder = settings.data / "topics"
        self._by_name: dict[str, Topic] = {}
        self._creating: set[str] = set()
        self._records: dict[str, dict[str, Any]] = {}
        self.cluster_id = ""
        self._journal = Journal(
            settings.data / "topics.journal", threads, self._apply, self._snapshot
        )

    # Reading

    def __iter__(self) -> Iterator[Topic]:
        return iter(self._by_name.values())

    def get(self, name: str) -> Topic | None:
        """Return a topic by name."""
        return self._by_name.get(name)

    def by_id(self, topic_id: uuid.UUID) -> Topic | None:
        """Return a topic by id."""
        return next((topic for topic in self._by_name.values() if topic.id == topic_id), None)

    def partition(self, name: str, index: int) -> PartitionLog | None:
        """Return a partition's log."""
        topic = self._by_name.get(name)
        if topic is None or not 0 <= index < len(topic.partitions):
            return None
        return topic.partitions[index]

    @staticmethod
    def is_name(name: str) -> bool:
        """Tell whether a topic may have this name."""
        return name not in {".", ".."} and _NAME.fullmatch(name) is not None

    # Start and stop

    def load(self) -> None:
        """Read everything back. Blocking: call it from a thread.

        Raises:
            DamagedSegment: acknowledged bytes are not what was stored.
            OSError: the folder can't be read or written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._journal.load()
        known = set()
        for record in self._records.values():
            topic = Topic(
                record["topic"], uuid.UUID(record["id"]), record["configs"], self._settings
            )
            topic.starts = {int(index): start for index, start in record["starts"].items()}
            for index in range(record["partitions"]):
                log = self._new_log(topic, index)
                log.load(topic.starts.get(index, 0))
                topic.partitions.append(log)
            self._by_name[topic.name] = topic
            known.add(self._topic_folder(topic))
        for folder in self._folder.iterdir():
            if folder.name.endswith(_DELETED):
                shutil.rmtree(folder)
            elif folder not in known:
                logger.warning("%s belongs to no topic; it is left as it is", folder)

    def close(self) -> None:
        """Close all files."""
        for topic in self._by_name.values():
            for log in topic.partitions:
                log.close()
        self._journal.close()

    # Changing

    def check_new(self, name: str, partitions: int, configs: dict[str, str | None]) -> None:
        """Check what a topic would be created with.

        Raises:
            TopicError: it can't be.
        """
        if not self.is_name(name):
            raise TopicError(
                Code.INVALID_TOPIC,
                f"Topic name {name[:300]!r} is illegal: 1 to 249 of a-z, A-Z, 0-9, '.', '_', '-'",
            )
        if name in self._by_name or name in self._creating:
            raise TopicError(Code.TOPIC_ALREADY_EXISTS, f"Topic '{name}' already exists.")
        if not 1 <= partitions <= self._settings.max_partitions:
            raise TopicError(
                Code.INVALID_PARTITIONS,
                f"Number of partitions must be from 1 to {self._settings.max_partitions}.",
            )
        if len(self._by_name) >= self._settings.max_topics:
            raise TopicError(
                Code.INVALID_REQUEST, f"the broker has {len(self._by_name)} topics, its limit"
            )
        _checked(configs)

    async def create(self, name: str, partitions: int, configs: dict[str, str | None]) -> Topic:
        """Create a topic; it is durable when this returns.

        Raises:
            TopicError: it can't be.
        """
        self.check_new(name, partitions, configs)
        topic = Topic(name, uuid.uuid4(), _checked(configs), self._settings)
        self._creating.add(name)
        try:
            logs = await self._make_logs(topic, 0, partitions)
            await self._store(topic.record(partitions))
        except OSError as error:
            with contextlib.suppress(OSError):
                await self._store({"gone": name})
            raise TopicError(Code.KAFKA_STORAGE_ERROR, str(error)) from error
        finally:
            self._creating.discard(name)
        topic.partitions = logs
        self._by_name[name] = topic
        return topic

    async def delete(self, topic: Topic) -> None:
        """Delete a topic and its records; durable when this returns.

        Raises:
            TopicError: it could not be.
        """
        try:
            await self._store({"gone": topic.name})
        except OSError as error:
            raise TopicError(Code.KAFKA_STORAGE_ERROR, str(error)) from error
        if self._by_name.get(topic.name) is topic:
            del self._by_name[topic.name]
        for log in topic.partitions:
            log.remove()
        folder = self._topic_folder(topic)
        gone = folder.with_name(folder.name + _DELETED)
        with contextlib.suppress(OSError):
            folder.rename(gone)
            await self._disk.run(partial(shutil.rmtree, gone))

    async def grow(self, topic: Topic, count: int, *, validate_only: bool) -> None:
        """Give a topic more partitions; durable when this returns.

        Raises:
            TopicError: it can't be.
        """
        have = len(topic.partitions)
        if count <= have:
            raise TopicError(
                Code.INVALID_PARTITIONS,
                f"The topic {topic.name} currently has {have} partition(s); {count} would not be "
                "an increase.",
            )
        if count > self._settings.max_partitions:
            raise TopicError(
                Code.INVALID_PARTITIONS, f"at most {self._settings.max_partitions} partitions"
            )
        if validate_only:
            return
        try:
            logs = await self._make_logs(topic, have, count)
            await self._store(topic.record(count))
        except OSError as error:
            raise TopicError(Code.KAFKA_STORAGE_ERROR, str(error)) from error
        if len(topic.partitions) == have:
            topic.partitions = [*topic.partitions, *logs]

    async def configure(
        self, topic: Topic, configs: dict[str, str | None], *, validate_only: bool
    ) -> None:
        """Replace what a topic sets; durable when this returns.

        Raises:
            TopicError: a configuration is not valid.
        """
        checked = _checked(configs)
        if validate_only:
            return
        before, topic.configs = topic.configs, checked
        try:
            await self._store(topic.record())
        except OSError as error:
            topic.configs = before
            raise TopicError(Code.KAFKA_STORAGE_ERROR, str(error)) from error
        topic.config.apply(self._settings, topic.configs)

    async def move_start(self, topic: Topic, log: PartitionLog, offset: int) -> None:
        """Remove the records in front of an offset; durable when this returns.

        Raises:
            OSError: the new start could not be made durable.
        """
        topic.starts[log.index] = max(offset, log.start)
        await self._store(topic.record())
        segments = log.move_start(offset)

        def unlink() -> None:
            for segment in segments:
                segment.unlink()

        await self._disk.run(unlink)

    async def apply_retention(self) -> None:
        """Remove the closed segments that retention does not keep, and forget idle producers."""
        now_ms = time.time() * 1000
        for topic in list(self._by_name.values()):
            for log in topic.partitions:
                log.roll(now_ms)
                log.forget_producers(int(now_ms) - _PRODUCERS_KEPT_MS)
                start = log.expired(now_ms)
                if start > log.start:
                    logger.info("%s-%d now starts at %d (retention)", topic.name, log.index, start)
                    await self.move_start(topic, log, start)
        await self._journal.rewrite()

    async def _store(self, record: dict[str, Any]) -> None:
        self._journal.write(record)
        self._apply(record)
        await self._journal.sync()

    async def _make_logs(self, topic: Topic, first: int, count: int) -> list[PartitionLog]:
        logs = [self._new_log(topic, index) for index in range(first, count)]

        def make() -> None:
            for log in logs:
                log.load(0)
            disk.sync_folder(self._topic_folder(topic))
            disk.sync_folder(self._folder)

        await self._disk.run(make)
        return logs

    def _new_log(self, topic: Topic, index: int) -> PartitionLog:
        return PartitionLog(
            topic.name,
            index,
            self._topic_folder(topic) / str(index),
            threads=self._disk,
            config=topic.config,
            fences=self._fences,
        )

    def _topic_folder(self, topic: Topic) -> Path:
        return self._folder / f"{topic.name}~{topic.id.hex}"

    def _apply(self, record: dict[str, Any]) -> None:
        if "cluster" in record:
            self.cluster_id = record["cluster"]
        elif "gone" in record:
            self._records.pop(record["gone"], None)
        else:
            self._records[record["topic"]] = record

    def _snapshot(self) -> list[dict[str, Any]]:
        if not self.cluster_id:
            self.cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        return [{"cluster": self.cluster_id}, *self._records.values()]


def _checked(configs: dict[str, str | None]) -> dict[str, str]:
    try:
        return {name: validate(name, value) for name, value in configs.items()}
    except InvalidConfig as error:
        raise TopicError(Code.INVALID_CONFIG, str(error)) from error
