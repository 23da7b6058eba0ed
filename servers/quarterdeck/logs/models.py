"""What the tools of the logs server answer. Log text in them is data: it is fenced in the text and labelled here."""

from __future__ import annotations

from pydantic import BaseModel

from quarterdeck.keel.answers import UNTRUSTED, Answer, fence


class LogAnswer(Answer):
    summary: str
    notes: list[str] | None = None
    """What could not be read, and why."""
    left_out: str | None = None
    """What did not fit, and how to get it."""
    untrusted: str = UNTRUSTED

    def around(self, rows: list[str], what: str) -> str:
        fenced = [fence("\n".join(rows), what)] if rows else []
        notes = [f"note: {note}" for note in self.notes or []]
        return "\n".join([self.summary, *fenced, *notes, *([self.left_out] if self.left_out else [])])


class LogServices(Answer):
    source: str
    services: list[str]
    left_out: int | None = None

    def text(self) -> str:
        more = f"\n… and {self.left_out} more; any of their names works too." if self.left_out else ""
        return f"{self.source}:\n" + "\n".join(self.services) + more


class LogLines(LogAnswer):
    lines: list[str]

    def text(self) -> str:
        return self.around(self.lines, "log lines")


class Matches(LogAnswer):
    matches: int
    exact: bool
    """Whether `matches` counts all of the window; else counting stopped there."""
    hits: list[str]

    def text(self) -> str:
        return self.around(self.hits, "log lines that match")


class Kind(BaseModel):
    template: str
    count: int
    before: int | None = None
    new: bool | None = None
    level: str | None = None
    first: str | None = None
    last: str | None = None
    example: str | None = None

    def row(self) -> str:
        news = "NEW " if self.new else ""
        before = f" (before: {self.before})" if self.before is not None and not self.new else ""
        times = f" {self.first}–{self.last}" if self.first else ""
        level = f" {self.level}" if self.level else ""
        example = f"\n    e.g. {self.example}" if self.example else ""
        return f"{news}×{self.count}{before}{level}{times}  {self.template}{example}"


class Digest(LogAnswer):
    levels: dict[str, int]
    kinds: list[Kind]

    def text(self) -> str:
        return self.around([kind.row() for kind in self.kinds], "kinds of log lines")


class Failure(BaseModel):
    count: int
    last: str
    first: str | None = None
    where: str
    text: str

    def row(self) -> str:
        times = f"×{self.count} {self.first} – {self.last}" if self.count > 1 else self.last
        return f"[{times} {self.where}]\n{self.text}"


class Failures(LogAnswer):
    errors: list[Failure]

    def text(self) -> str:
        return self.around([error.row() for error in self.errors], "errors in logs")
