"""The nodes of a Ray cluster that compute for us, each by one process.

In: a connection to Ray. Out: `Member` s, one for each node, which come and go as the nodes do.
Why: an engine keeps all cores of a machine busy, so that a node needs one process with one engine.
Surprise: a node whose cores another program holds is no member until it gives them back; nothing waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from time import monotonic, sleep
from typing import Any

from regraft.distributed.node import THREADS, Node
from regraft.errors import BackboneError
from regraft.foundation import console

_RECRUIT_SECONDS = 3.0  # between two looks at which nodes there are
_PATIENCE = 60.0  # seconds without any node after which the work is given up
_TICK = 0.05  # seconds after which the nodes are looked at again


@dataclass(slots=True, eq=False)
class Member:
    """One node, with the process that computes there.

    Attributes:
        node: Ray's identifier of the node.
        address: the network address of the node, for messages.
        actor: Ray's handle of the `Node` object.
        load: how many shards the process has been given.
        refusals: by the fingerprint of an engine, why the node cannot make this engine.
    """

    node: str
    address: str
    actor: Any
    load: int = 0
    refusals: dict[str, str] = field(default_factory=dict)


class Crew:
    """All members, and those that have not answered yet.

    Attributes:
        members: the members that are up, by node.
        hired: the nodes on which a process has ever been started.
    """

    def __init__(self) -> None:
        self._ray = import_module("ray")
        self._newcomers: dict[Any, Member] = {}
        self._looked = float("-inf")
        self._absent: dict[str, str] = {}  # by node, why no process runs there
        self._ended: set[str] = set()  # the nodes of which the user has been told that their process has ended
        self.members: dict[str, Member] = {}
        self.hired: set[str] = set()

    def refresh(self) -> None:
        """Hire the nodes that have joined the cluster, and let those that have answered be members."""
        if monotonic() - self._looked > _RECRUIT_SECONDS:
            self._looked = monotonic()
            known = {*self.members, *self._absent, *(member.node for member in self._newcomers.values())}
            for node in self._ray.nodes():
                if node["Alive"] and node["Resources"].get("CPU", 0) >= 1 and node["NodeID"] not in known:
                    self._hire(node)
        if not self._newcomers:
            return
        answered, _ = self._ray.wait(list(self._newcomers), num_returns=len(self._newcomers), timeout=0)
        for answer in answered:
            member = self._newcomers.pop(answer)
            try:
                self._ray.get(answer)
                self.members[member.node] = member
            except self._ray.exceptions.RayError as error:  # the node was lost, or has no regraft
                self._absent[member.node] = f"node {member.address}: {told(error)}"
                console.warn(f"node {member.address} is left out: {told(error)}")

    def wait_for_one(self, fingerprint: str = "") -> Member:
        """Wait until a member is up, one that can make an engine, and return the one with the smallest load.

        Raises:
            BackboneError: no node can compute the features.
        """
        end = monotonic() + _PATIENCE
        while (found := self.able(fingerprint)) is None:
            self.refresh()
            if reasons := self.refusals(fingerprint):
                raise BackboneError(f"no node can compute the features: {reasons}")
            if monotonic() > end:
                why = self.absences or "see what `ray status` prints"
                raise BackboneError(f"the cluster has had no node with free cores for {_PATIENCE:.0f} s; {why}")
            sleep(_TICK)
        return found

    def dismiss(self, member: Member) -> None:
        """Leave out a member whose process has ended. If its node lives, a new process is started there."""
        if self.members.get(member.node) is member:
            del self.members[member.node]
            self._looked = float("-inf")
            if member.node not in self._ended:
                self._ended.add(member.node)
                console.warn(f"the process on node {member.address} has ended; its work is done again")

    def able(self, fingerprint: str) -> Member | None:
        """Return the member with the smallest load of those that have not refused an engine; None if there is none."""
        able = (member for member in self.members.values() if fingerprint not in member.refusals)
        return min(able, key=lambda member: member.load, default=None)

    def refusals(self, fingerprint: str) -> str:
        """Return why all members refuse to make an engine; empty if one does not, or if there may be more members."""
        if self._newcomers or not self.members or self.able(fingerprint):
            return ""
        return "; ".join(f"node {member.address}: {member.refusals[fingerprint]}" for member in self.members.values())

    @property
    def absences(self) -> str:
        """Why no process runs on nodes that were left out; empty if there are none."""
        return "; ".join(self._absent.values())

    def dismiss_all(self) -> None:
        """End the processes of all members."""
        for member in [*self.members.values(), *self._newcomers.values()]:
            self._ray.kill(member.actor)
        self.members, self._newcomers = {}, {}

    def _hire(self, node: Mapping[str, Any]) -> None:
        """Start a process on a node, which takes all its cores."""
        strategies = import_module("ray.util.scheduling_strategies")
        cores = int(node["Resources"]["CPU"])
        options = {
            "num_cpus": cores,
            "max_concurrency": THREADS,
            "max_restarts": 0,
            "scheduling_strategy": strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
        }
        actor = self._ray.remote(Node).options(**options).remote(cores)
        member = Member(node["NodeID"], node["NodeManagerAddress"], actor)
        self._newcomers[actor.is_up.remote()] = member
        self.hired.add(node["NodeID"])


def told(error: BaseException) -> str:
    """Return an error of Ray in one line: of an error that was raised on a node the last line of its traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1 if "Traceback" in str(error) or lines[0].startswith("\x1b") or "ray::" in lines[0] else 0][:300]
