"""One lever in a file: the smallest thing in the outside world that can be changed, shared by several processes."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastmcp import Context, FastMCP
from pydantic import Field

from quarterdeck.keel.answers import Answer
from quarterdeck.keel.changes import Change, Changes, Plan, Report, Seen, Target
from quarterdeck.keel.consent import carry_out
from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import Settings
from quarterdeck.keel.tools import change, look, new_server


@dataclass(frozen=True)
class Lever:
    home: Path

    @property
    def position(self) -> str:
        file = self.home / "lever"
        return file.read_text() if file.exists() else "down"

    def push(self, position: str) -> None:
        """Somebody moves it by hand."""
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "lever").write_text(position)

    @property
    def pulls(self) -> list[str]:
        """Every time it was pulled, in order."""
        file = self.home / "pulls"
        return file.read_text().split() if file.exists() else []

    def change(self, position: str) -> Change:
        before = self.position
        return Change(
            server="lever",
            tool="pull_lever",
            summary=f"pull the lever to {position}",
            targets=(Target("lever", "main", "hall", fingerprint=hashlib.sha256(before.encode()).hexdigest()),),
            before=before,
            after=position,
            undo=f"pull the lever to {before}",
            exact=f"position={position}",
        )

    def plan(self, position: str) -> Plan:
        shown = self.change(position)

        async def apply() -> str:
            (self.home / "started").touch()
            while (self.home / "hold").exists():  # noqa: ASYNC110 - a test holds it half-way, from another process
                await asyncio.sleep(0.01)
            if self.change(position) != shown:
                raise Refusal("The lever was moved meanwhile. Nothing was changed.")
            with (self.home / "pulls").open("a") as file:
                file.write(f"{position}\n")
            self.push(position)
            return f"Pulled the lever to {position}."

        async def verify(report: Report) -> Seen:
            await report(0.9, "looking")
            return Seen(self.position == position, f"It is {self.position}.")

        return Plan(shown, apply, verify)


class Position(Answer):
    position: str

    def text(self) -> str:
        return f"The lever is {self.position}."


def create_server(settings: Settings) -> FastMCP[Any]:
    server = new_server("lever", "A lever to look at and to pull. Read it first, then pull it with consent.", settings)
    lever, changes = Lever(settings.home), Changes.of(settings)

    @look(server)
    async def read_lever() -> Position:
        """Say where the lever is."""
        return Position(position=lever.position)

    @change(server, destructive=True, idempotent=True)
    async def pull_lever(
        ctx: Context, position: Annotated[str, Field(description="where to, such as up", max_length=4000)]
    ) -> Any:
        """Pull the lever, once a person has agreed."""
        return await carry_out(ctx, changes, lever.plan(position))

    return server
