"""Bad weather on demand: the API answers late, refuses, or breaks off."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Gust:
    """Strikes the next `times` requests whose path contains `path`."""

    kind: str
    """429, 500, 503, slow, cut or garbage"""
    path: str = ""
    times: int = 1
    seconds: float = 1.0
    method: str = ""


@dataclass
class Weather:
    gusts: list[Gust] = field(default_factory=list)

    def strike(self, method: str, path: str) -> Gust | None:
        for gust in self.gusts:
            if gust.path in path and gust.method in ("", method) and gust.times > 0:
                gust.times -= 1
                if gust.times == 0:
                    self.gusts.remove(gust)
                return gust
        return None
