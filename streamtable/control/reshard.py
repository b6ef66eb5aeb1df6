"""The pages behind `streamtable reshard`.

| page | |
|---|---|
| `GET /_streamtable/reshard` | how many shards there are, and how far a change of that is |
| `POST /_streamtable/reshard` `{"shards": N}` | has the number made N |
| `POST /_streamtable/reshard` `{"cancel": true}` | gives up what is under way |
"""

from collections.abc import Mapping
from typing import Any

from streamtable.consumers.reshard.driver import ReshardDriver
from streamtable.core.errors import ValidationError

__all__ = ["ReshardPages"]


class ReshardPages:
    """The pages.

    Args:
        driver: leads the change, or notes that it is wanted.
    """

    def __init__(self, driver: ReshardDriver) -> None:
        self._driver = driver

    async def status(self, _query: Mapping[str, str]) -> dict[str, Any]:
        """Answer how far it is.

        `reshard` has target, phase and attempts, None where nothing is under way; `failed` says
        why the last one was given up. `lag` is how many records the copies lack, `errors` what
        keeps them or the shards from going on, `waiting` whether requests wait, `cleaning` how
        many shards have rows of others still, `paused_s` how long requests waited the last time.
        """
        return await self._driver.status()

    async def act(self, body: dict[str, Any]) -> dict[str, Any]:
        """Begin a change, or give it up; answered when that is noted, not when it is done.

        Raises:
            ValidationError: the number can't be made that.
        """
        if body.get("cancel"):
            return {"cancelled": await self._driver.give_up()}
        shards = body.get("shards")
        if not isinstance(shards, int):
            raise ValidationError("shards must be a number")
        await self._driver.ask_for(shards)
        return await self._driver.status()
