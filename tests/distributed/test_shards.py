"""How photos are shared out, with a Ray that is a few lines of this file: nothing is lost, whatever ends."""

from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regraft.distributed import crew, shards
from regraft.distributed.crew import Crew, Member
from regraft.distributed.node import Refusal
from regraft.distributed.shards import Distribution, Failure, shards_of
from regraft.errors import BackboneError


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


class FakeRay:
    """Nodes with one process each, which answers a shard with its photos, or ends, as ``fate`` says."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, nodes: int, fate: Any) -> None:
        self.names = [f"node{i}" for i in range(nodes)]
        self.fate = fate
        self.asked = Counter[int]()

    def nodes(self) -> list[dict[str, Any]]:
        return [
            {"NodeID": name, "NodeManagerAddress": name, "Alive": True, "Resources": {"CPU": 2}} for name in self.names
        ]

    def wait(self, references: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return references[:num_returns], references[num_returns:]

    def get(self, reference: Any) -> Any:
        return reference()

    def ask(self, member: Member, photos: list[int]) -> Any:
        self.asked.update(photos)
        ends = self.fate(member.address, photos)

        def answer() -> Any:
            if isinstance(ends, Exception):
                raise ends
            return ends or list(photos)

        return answer


def started(patch: pytest.MonkeyPatch, nodes: int, fate: Any) -> tuple[FakeRay, Crew]:
    """A crew on as many nodes, all of which are up at once."""
    ray = FakeRay(nodes, fate)

    def hire(crew: Crew, node: dict[str, Any]) -> None:
        crew.members[node["NodeID"]] = Member(node["NodeID"], node["NodeID"], None)
        crew.hired.add(node["NodeID"])

    patch.setattr(crew, "import_module", lambda name: ray)
    patch.setattr(shards, "import_module", lambda name: ray)
    patch.setattr(Crew, "_hire", hire)
    return ray, Crew()


def told(staff: Crew, ray: FakeRay, photos: int) -> tuple[Counter[int], dict[int, str]]:
    """How often each photo was answered, and which have failed with which reason."""
    answered, failed = Counter[int](), dict[int, str]()
    for shard, _, answer in Distribution(staff, range(photos), "print", ray.ask).answers():
        if isinstance(answer, Failure):
            (number,) = shard.numbers
            failed[number] = answer.reason
        else:
            assert answer == list(shard.numbers)
            answered.update(answer)
    return answered, failed


@given(photos=st.integers(0, 10_000), members=st.integers(0, 100))
def test_shards_are_all_photos_once(photos: int, members: int) -> None:
    found = shards_of(photos, members)
    assert [i for shard in found for i in shard.numbers] == list(range(photos))
    assert all(len(shard.numbers) <= 256 for shard in found)
    assert all(len(shard.numbers) >= 16 for shard in list(found)[:-1])


def test_each_photo_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ray, staff = started(monkeypatch, 3, lambda address, photos: None)
    answered, failed = told(staff, ray, 1000)
    assert answered == ray.asked == Counter(range(1000))
    assert not failed


def test_photos_that_end_their_process_are_named_and_all_others_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    poison = {5, 700, 701}
    ray, staff = started(monkeypatch, 2, lambda address, photos: RayError("killed") if poison & set(photos) else None)
    answered, failed = told(staff, ray, 1000)
    assert failed.keys() == poison
    assert failed[5] == "3 processes that computed it ended: killed"
    assert answered == Counter(set(range(1000)) - poison)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), nodes=st.integers(1, 5), share=st.floats(0, 0.3))
def test_processes_that_end_by_chance_lose_no_photo(seed: int, nodes: int, share: float) -> None:
    dice = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        ray, staff = started(patch, nodes, lambda address, photos: RayError("lost") if dice.random() < share else None)
        try:
            answered, failed = told(staff, ray, 2000)
        except BackboneError as error:
            assert "again and again" in str(error)  # noqa: PT017
            return
    assert Counter(answered.keys()) + Counter(failed.keys()) == Counter(range(2000))
    assert set(answered.values()) <= {1}


def test_a_cluster_whose_processes_always_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    ray, staff = started(monkeypatch, 2, lambda address, photos: RayError("out of memory"))
    with pytest.raises(BackboneError, match=r"end again and again; node node.: out of memory"):
        told(staff, ray, 1000)


def test_an_error_of_our_own_is_tried_three_times_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ray, staff = started(
        monkeypatch, 1, lambda address, photos: RayTaskError("ray::Node.fill()\nOSError: no space left")
    )
    with pytest.raises(BackboneError, match=r"^node node0: OSError: no space left$"):
        told(staff, ray, 10)
    assert ray.asked[0] == 3


def test_a_node_that_refuses_is_left_out(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    ray, staff = started(monkeypatch, 2, lambda address, photos: Refusal("no weights") if address == "node0" else None)
    answered, _ = told(staff, ray, 500)
    assert answered == Counter(range(500))
    assert caplog.text.count("node node0 is left out: no weights") == 1


def test_if_all_nodes_refuse_their_reasons_are_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    ray, staff = started(monkeypatch, 2, lambda address, photos: Refusal(f"{address} is too old"))
    with pytest.raises(BackboneError, match=r"node node0: node0 is too old; node node1: node1 is too old"):
        told(staff, ray, 500)


def test_a_reader_that_stops_leaves_the_members_free(monkeypatch: pytest.MonkeyPatch) -> None:
    ray, staff = started(monkeypatch, 2, lambda address, photos: None)
    answers = Distribution(staff, range(500), "print", ray.ask).answers()
    next(answers)
    answers.close()
    assert [member.load for member in staff.members.values()] == [0, 0]
