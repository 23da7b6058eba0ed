"""Who needs whom, learned from what services complain about; and who is to blame when several are unwell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from quarterdeck.agents.remediation import names
from quarterdeck.agents.remediation.models import Kind
from quarterdeck.agents.remediation.scene import Line, Scene
from quarterdeck.agents.remediation.signs import COMPLAINTS, Sign, hosts_in, signs_in, targets

_ADDRESS_OF = re.compile(r"(\w{2,60}?)_(?:SERVICE_)?(?:HOST|URL|URI|ADDR|ADDRESS|ENDPOINT|DSN|BASE_URL|SERVERS?|PORT)")
Topology = Mapping[str, Iterable[str]]
"""Service → what it needs, for those who know it beforehand."""


@dataclass
class Complaint:
    """One service says that it cannot reach another, or waits for it in vain."""

    by: str
    about: str
    outside: bool
    """Whether `about` is no service of this cluster."""
    kind: Kind
    weight: float
    line: Line
    sign: Sign


@dataclass
class Graph:
    complaints: list[Complaint] = field(default_factory=list)
    needs: dict[str, set[str]] = field(default_factory=dict)

    def reaches(self, start: str, end: str) -> bool:
        """Whether `start` needs `end`, over others too."""
        seen, ahead = {start}, [start]
        while ahead:
            for needed in self.needs.get(ahead.pop(), ()):
                if needed == end:
                    return True
                if needed not in seen:
                    seen.add(needed)
                    ahead.append(needed)
        return False


def complaints_of(scene: Scene) -> list[str]:
    """The services that others complain about, most complaints first."""
    counts: dict[str, int] = {}
    for complaint in graph_of(scene).complaints:
        if not complaint.outside:
            counts[complaint.about] = counts.get(complaint.about, 0) + complaint.line.count
    return sorted(counts, key=lambda name: -counts[name])


def graph_of(scene: Scene, topology: Topology | None = None) -> Graph:
    graph = Graph()
    for service, needed in (topology or {}).items():
        graph.needs.setdefault(service, set()).update(needed)
    known, addresses = scene.known, scene.addresses
    for pod in scene.pods:
        for variable in pod.env:
            # `USER_SERVICE_URL` and `REDIS_HOST` say who is called.
            meant = _ADDRESS_OF.fullmatch(variable)
            if meant and (found := names.same(meant[1], known)) and found != pod.service:
                graph.needs.setdefault(pod.service, set()).add(found)
    for line in scene.lines:
        for sign in signs_in(line.text):
            if sign.kind not in COMPLAINTS or line.level in ("info", "debug"):
                continue
            ours, outside = targets(sign, known, line.service, addresses, scene.ports)
            about = ours or outside
            if about is None:
                continue
            graph.complaints.append(Complaint(line.service, about, ours is None, sign.kind, sign.weight, line, sign))
            if ours:
                graph.needs.setdefault(line.service, set()).add(ours)
        for host, _ in hosts_in(line.text[:1000]):
            # Whatever the line says: it names a service of ours as one names who is called.
            found = names.host(host, [name for name in known if name != line.service])
            if found and found in scene.workloads:
                graph.needs.setdefault(line.service, set()).add(found)
    return graph
