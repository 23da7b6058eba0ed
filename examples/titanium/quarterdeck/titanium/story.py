"""The practice world for programs that are not asyncio: in a thread of its own, used as a context manager."""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from quarterdeck.titanium import breakages
from quarterdeck.titanium.weather import Gust
from quarterdeck.titanium.world import World

T = TypeVar("T")
START_S = 30.0


class PracticeWorld:
    """`with PracticeWorld() as world: world.inject("blog-locked")`."""

    def __init__(self, *, speed: float = 4.0, free_ports: bool = True, seed: int = 7, nodes: int = 3) -> None:
        self._arguments = {"speed": speed, "free_ports": free_ports, "seed": seed, "nodes": nodes}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="practice world", daemon=True)
        self._folder = tempfile.TemporaryDirectory(prefix="practice-world-")
        self.kubeconfig = Path(self._folder.name) / "kubeconfig"
        self.world: World

    def __enter__(self) -> PracticeWorld:
        self._thread.start()

        async def start() -> World:
            world = World(**self._arguments)  # type: ignore[arg-type]
            await world.start()
            return world

        try:
            self.world = self._run(start())
        except BaseException:
            self._end()
            raise
        try:
            self.world.cluster.write_kubeconfig(self.kubeconfig)
            self.wait_until(lambda world: world.all_ready(), "the system is ready", START_S)
        except BaseException:  # also when somebody stops it while it starts
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._run(self.world.stop())
        finally:
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()
        self._folder.cleanup()

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=START_S)

    def call(self, look: Callable[[World], T]) -> T:
        """Run something inside the world's loop and give its result."""

        async def run() -> T:
            return look(self.world)

        found: T = self._run(run())
        return found

    def inject(self, fault: str) -> None:
        self.call(lambda world: world.inject(fault))

    def clear(self, fault: str | None = None) -> None:
        self.call(lambda world: world.clear(fault))

    def renew(self) -> None:
        """Begin anew: no fault, fresh pods, no log, event or revision of what was before."""
        self.call(breakages.renew)
        self.wait_until(breakages.settled, "the system is ready again", START_S)

    def weather(self, kind: str, **more: Any) -> None:
        """The next request to the Kubernetes API meets this: 429, 500, 503, slow, cut, garbage."""
        self.call(lambda world: world.cluster.weather.gusts.append(Gust(kind, **more)))

    def wait_until(self, true: Callable[[World], bool], what: str, seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not self.call(true):
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {seconds:.0f} s: {what}")
            time.sleep(0.05)

    def environment(self) -> dict[str, str]:
        """QUARTERDECK_* settings that point the servers here."""
        return self.call(lambda world: world.environment(self.kubeconfig))

    @property
    def kubernetes_url(self) -> str:
        return self.world.cluster.url

    @property
    def balancer_url(self) -> str:
        return f"http://127.0.0.1:{self.world.services.ports['load-balancer']}"

    @property
    def prometheus_url(self) -> str:
        return f"http://127.0.0.1:{self.world.prometheus.port}"

    @property
    def loki_url(self) -> str:
        return f"http://127.0.0.1:{self.world.loki.port}"

    @property
    def control_url(self) -> str:
        return f"http://127.0.0.1:{self.world.control.port}"


def practice_world(*, speed: float = 4.0, free_ports: bool = True, seed: int = 7, nodes: int = 3) -> PracticeWorld:
    return PracticeWorld(speed=speed, free_ports=free_ports, seed=seed, nodes=nodes)
