import asyncio

import pytest

from streamtable.control.bodies import Change, Registration
from streamtable.control.registrations import Registrations
from streamtable.control.starts import Starts
from streamtable.core.consumers import ConsumerDocument
from streamtable.core.errors import ResourceInUse, ResourceNotFound, ValidationError
from streamtable.streams.catalog import Catalog, ConsumerChangedMeanwhile
from streamtable.streams.layout import Layout
from tests.support.failures import unexpected
from tests.support.waiting import until


class MemoryCatalog(Catalog):
    """Consumers in memory; `rival` is put before the next change, which is refused then."""

    def __init__(self):
        super().__init__("nowhere:1", "catalog", Layout(1), unexpected)
        self.rival = None

    async def put_consumer(self, document):
        if self.rival is not None:
            self._consumers[self.rival.key] = self.rival
            self.rival = None
            raise ConsumerChangedMeanwhile(document.app, document.name)
        stored = ConsumerDocument.model_validate(document.model_dump(mode="json"))
        self._consumers[document.key] = stored


class CountedStarts(Starts):
    """Each time a start is resolved, the log is one record longer."""

    def __init__(self):
        self.resolved: list[str] = []

    async def resolve(self, text):
        if text == "nonsense":
            raise ValidationError("no start")
        self.resolved.append(text)
        return {0: len(self.resolved), 1: 0}


class Region:
    def __init__(self, session_s=0.0):
        self.asked = 0
        self.catalog = MemoryCatalog()
        self.starts = CountedStarts()
        self.running: dict[str, list[str]] = {}
        self.members: dict[str, int] = {}
        self.registrations = Registrations(
            self.catalog,
            self.starts,
            workers=lambda key: self.running.get(key, []),
            members=self._members,
            region="eu",
            session_s=session_s,
        )

    async def _members(self, group):
        self.asked += 1
        return self.members.get(group, 0)

    async def register(self, name="welcome", **given):
        defaults = {
            "kind": "trigger",
            "sources": ("users",),
            "start": "TRIM_HORIZON",
            "definition": {"on": ["INSERT"]},
            "names": (name,),
        }
        asked = Registration(app="shop", name=name, **(defaults | given))
        return await self.registrations.register(asked)

    async def change(self, action, name="welcome", **given):
        return await self.registrations.change(
            Change(app="shop", name=name, action=action, **given)
        )


@pytest.fixture
def region():
    return Region()


class TestRegister:
    async def test_where_it_begins_is_decided_once(self, region):
        first, notes = await region.register(start="LATEST")
        assert notes == ["shop/welcome is new and begins at LATEST"]
        assert first.start == {0: 1, 1: 0}
        assert first.group("eu") == "eu.trigger.shop.welcome.1"
        again, notes = await region.register(start="LATEST")
        assert (again, notes) == (first, [])
        assert region.starts.resolved == ["LATEST"]

    async def test_of_two_workers_at_once_the_second_takes_what_the_first_has_made(self, region):
        rival = Region()
        region.catalog.rival, _ = await rival.register(start="LATEST")
        found, _ = await region.register(start="LATEST")
        assert found == rival.catalog.consumer("shop", "welcome")

    async def test_one_of_an_app_that_looks_renamed_is_told(self, region):
        other = Registration(
            app="store",
            name="welcome",
            kind="trigger",
            sources=("users",),
            start="LATEST",
            names=("welcome",),
        )
        await region.registrations.register(other)
        region.running["store/welcome"] = ["one"]
        assert len((await region.register(name="welcome"))[1]) == 1
        region.catalog._consumers.pop("shop/welcome")
        region.running.clear()
        _, [_, note] = await region.register(name="welcome")
        assert "takes what store/welcome took, which nobody runs" in note
        assert "streamtable triggers remove store/welcome" in note

    async def test_a_start_that_is_none(self, region):
        with pytest.raises(ValidationError, match="shop/welcome, start=nonsense: no start"):
            await region.register(start="nonsense")
        assert region.catalog.consumers() == []

    async def test_a_start_that_has_changed_has_no_effect_and_that_is_told_once(self, region):
        first, _ = await region.register()
        found, [note] = await region.register(start="LATEST")
        assert found.start == first.start
        assert "start=LATEST has no effect, it began at TRIM_HORIZON on " in note
        assert note.endswith("streamtable triggers reset shop/welcome --to LATEST")
        assert (await region.register(start="LATEST"))[1] == []

    async def test_what_has_changed_is_told_and_kept(self, region):
        await region.register()
        definition = {"on": ["INSERT", "MODIFY"], "batch_size": 5}
        found, [note] = await region.register(definition=definition)
        assert note == (
            'shop/welcome has changed: batch_size null -> 5, on ["INSERT"] -> ["INSERT","MODIFY"]'
        )
        assert found.definition == {**definition, "start": "TRIM_HORIZON"}
        assert found.generation == 1

    async def test_a_trigger_whose_table_has_changed_is_refused(self, region):
        await region.register()
        with pytest.raises(ValidationError, match="takes the changes of users, and the app") as it:
            await region.register(sources=("people",))
        assert "give it another name, or remove the old one" in str(it.value)

    async def test_a_view_may_have_other_sources(self, region):
        await region.register("rows", kind="view", start=None)
        found, [note] = await region.register("rows", kind="view", start=None, sources=("people",))
        assert found.sources == ("people",)
        assert note == "shop/rows has changed: its tables"

    async def test_another_kind_of_that_name_is_refused(self, region):
        await region.register()
        with pytest.raises(ValidationError, match="is registered as a trigger"):
            await region.register(kind="view", start=None)

    async def test_one_that_says_later_where_it_begins(self, region):
        found, notes = await region.register("rows", kind="view", start=None)
        assert (found.generation, found.start, notes) == (0, {}, [])


class TestRename:
    async def test_a_new_name_without_a_word_is_refused(self, region):
        await region.register()
        with pytest.raises(ValidationError) as it:
            await region.register("hello")
        assert "is new, and shop/welcome, which takes the changes of users too" in str(it.value)
        assert "was='welcome'" in str(it.value)
        assert "streamtable triggers remove shop/welcome" in str(it.value)
        assert region.catalog.consumer("shop", "hello") is None

    @pytest.mark.parametrize(
        "given",
        [
            {"names": ("hello", "welcome")},
            {"sources": ("orders",)},
            {"kind": "search"},
        ],
    )
    async def test_what_does_not_look_like_one(self, region, given):
        await region.register()
        await region.register("hello", **given)

    async def test_one_that_a_worker_still_runs_is_not_gone(self, region):
        await region.register()
        region.running["shop/welcome"] = ["w1"]
        await region.register("hello")

    async def test_was_has_it_go_on_where_it_stood(self, region):
        before, _ = await region.register()
        moved, notes = await region.register("hello", was="welcome")
        assert notes == ["shop/hello goes on where shop/welcome stood"]
        assert region.catalog.consumer("shop", "welcome") is None
        assert (moved.id, moved.start, moved.group("eu")) == (
            before.id,
            before.start,
            before.group("eu"),
        )
        assert (await region.register("hello", was="welcome"))[1] == []

    async def test_a_rename_that_was_cut_off_is_finished(self, region):
        before, _ = await region.register()
        await region.register("hello", was="welcome")
        await region.catalog.put_consumer(before)
        await region.register("hello", was="welcome")
        assert [each.name for each in region.catalog.consumers()] == ["hello"]

    async def test_the_old_name_begins_in_a_group_of_its_own(self, region):
        await region.register()
        moved, _ = await region.register("hello", was="welcome")
        other, _ = await region.register("welcome", names=("hello", "welcome"))
        assert other.group("eu") != moved.group("eu")
        assert (await region.change("reset", "hello", to="LATEST")).group("eu") not in {
            moved.group("eu"),
            other.group("eu"),
        }

    async def test_was_of_one_that_the_app_still_has(self, region):
        await region.register()
        with pytest.raises(ValidationError, match="still has a 'welcome'"):
            await region.register("hello", was="welcome", names=("hello", "welcome"))

    async def test_was_of_one_on_another_table(self, region):
        await region.register()
        with pytest.raises(ValidationError, match="takes the changes of users"):
            await region.register("hello", was="welcome", sources=("people",))

    async def test_was_of_one_that_is_not_there(self, region):
        _, notes = await region.register("hello", was="welcome")
        assert "there is no shop/welcome to take over from" in notes[1]


class TestChange:
    async def test_pause_and_resume(self, region):
        await region.register()
        assert (await region.change("pause")).paused
        assert region.catalog.consumer("shop", "welcome").paused
        assert not (await region.change("resume")).paused

    async def test_a_reset_is_a_new_generation_that_begins_there(self, region):
        await region.register()
        await region.change("pause")
        found = await region.change("reset", to="LATEST", resume=True)
        assert (found.generation, found.start_text, found.paused) == (2, "LATEST", False)
        assert found.start == {0: 2, 1: 0}
        assert found.group("eu") == "eu.trigger.shop.welcome.2"

    async def test_a_reset_leaves_it_paused(self, region):
        await region.register()
        await region.change("pause")
        assert (await region.change("reset", to="LATEST")).paused

    @pytest.mark.parametrize("action", ["reset", "remove"])
    async def test_not_while_a_worker_runs_it(self, region, action):
        document, _ = await region.register()
        region.running["shop/welcome"] = ["w1"]
        with pytest.raises(ResourceInUse, match=r"Workers \(w1\) run shop/welcome"):
            await region.change(action, to="LATEST")
        region.running.clear()
        # One that reports elsewhere, or was stopped by the system, is in the group still.
        region.members[document.group("eu")] = 1
        with pytest.raises(ResourceInUse, match="Workers run shop/welcome"):
            await region.change(action, to="LATEST")

    @pytest.mark.parametrize("action", ["reset", "remove"])
    async def test_a_worker_that_died_is_waited_for(self, action):
        region = Region(session_s=60.0)
        document, _ = await region.register()
        region.members[document.group("eu")] = 1
        changing = asyncio.create_task(region.change(action, to="LATEST"))
        await until(lambda: region.asked > 1, "it to be asked again")
        assert not changing.done()
        region.members.clear()
        assert (await changing).key == "shop/welcome"

    async def test_one_that_was_removed_begins_anew(self, region):
        await region.register()
        await region.change("remove")
        assert region.catalog.consumer("shop", "welcome") is None
        with pytest.raises(ResourceNotFound, match="There is no consumer shop/welcome"):
            await region.change("pause")
        found, notes = await region.register(start="LATEST")
        assert notes == ["shop/welcome is new and begins at LATEST"]
        assert found.generation == 2

    async def test_views_are_rebuilt_and_not_reset(self, region):
        await region.register("rows", kind="view", start=None)
        with pytest.raises(ValidationError, match="streamtable views rebuild rows"):
            await region.change("reset", "rows", to="LATEST")

    async def test_a_view_says_where_it_begins_and_what_is_done(self, region):
        await region.register("rows", kind="view", start=None)
        await region.change("request", "rows", request={"id": "r1", "kind": "rebuild"})
        found = await region.change("begin", "rows", generation=1, start={0: 7}, request_id="r0")
        assert (found.generation, found.start) == (1, {0: 7})
        assert found.request == {"id": "r1", "kind": "rebuild"}
        found = await region.change("begin", "rows", generation=2, start={0: 9}, request_id="r1")
        assert found.request is None
        with pytest.raises(ValidationError, match="generation 1 is over"):
            await region.change("begin", "rows", generation=1, start={}, request_id=None)

    @pytest.mark.parametrize("action", ["reset", "request", "begin"])
    async def test_what_is_missing(self, region, action):
        await region.register("rows", kind="view" if action != "reset" else "trigger")
        with pytest.raises(ValidationError, match="missing"):
            await region.change(action, "rows")

    async def test_it_decides_anew_when_another_change_came_first(self, region):
        document, _ = await region.register()
        region.catalog.rival = document.model_copy(update={"redrives": 4})
        found = await region.change("pause")
        assert (found.paused, found.redrives) == (True, 4)

    async def test_redriven(self, region):
        await region.register()
        await region.registrations.redriven("shop", "welcome")
        assert region.catalog.consumer("shop", "welcome").redrives == 1
