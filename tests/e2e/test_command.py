"""The real `quarterdeck` process, as a person, a model's shell and an AI client meet it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from mcp_types import Implementation

from quarterdeck.keel.changes import Change, Changes, Pending, Target
from quarterdeck.keel.identity import Caller, new_token
from quarterdeck.keel.settings import ChangesSettings

QUARTERDECK = str(Path(sys.executable).parent / "quarterdeck")
LEVER = str(Path(__file__).parents[1] / "data" / "lever")
ERAS = ("auto", "legacy")
# Like a terminal of one's own: it gets a controlling terminal, so that Ctrl-C is a signal.
IN_A_TERMINAL = (
    "import fcntl, os, signal, sys, termios\n"
    "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"  # a suite in the background passes on an ignored Ctrl-C
    "os.setsid()\nfcntl.ioctl(0, termios.TIOCSCTTY, 0)\nos.execv(sys.argv[1], sys.argv[1:])"
)
AGENT_SHELLS = ("CLAUDECODE", "GEMINI_CLI", "CODEX_SANDBOX", "CURSOR_AGENT", "OPENCODE")


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("QUARTERDECK_", *AGENT_SHELLS))}
    return {
        **kept,
        "HOME": str(home.parent),
        "XDG_CONFIG_HOME": str(home.parent / "config"),
        "QUARTERDECK_HOME": str(home),
        "QUARTERDECK_LOGS_SOURCE": "files",
        "QUARTERDECK_LOGS_FILES": f"app={home.parent}/*.log",
        "PYTHONPATH": LEVER,
        **more,
    }


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def changes(home: Path) -> Changes:
    return Changes(ChangesSettings(), home)


def quarterdeck(home: Path, *arguments: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [QUARTERDECK, *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
        env=environment(home, **environ),
    )


def waiting(changes: Changes, what: str = "scale blog to 3") -> Pending:
    change = Change(
        "kubectl", "scale_deployment", what, (Target("deployment", "blog", "prod"),), "2", "3", "scale to 2", what
    )
    return changes.request(change, Caller("local:me", client="probe 1"))


class Terminal:
    """A person's terminal with one command in it."""

    def __init__(self, home: Path, *arguments: str, **environ: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-c", IN_A_TERMINAL, QUARTERDECK, *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment(home, **environ),
        )
        os.close(slave)
        self.said = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)

    def read_until(self, wanted: str) -> str:
        until = time.monotonic() + 30
        while wanted not in self.said:
            ready, _, _ = select.select([self.master], [], [], max(0, until - time.monotonic()))
            assert ready, f"{wanted!r} did not come, but: {self.said}"
            if not self._read():
                break
        return self.said

    def _read(self) -> bool:
        try:
            data = os.read(self.master, 65536)
        except OSError:  # the other end is closed
            return False
        self.said += data.decode()
        return bool(data)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def press_until_it_ends(self, key: str) -> None:
        """As a person does: a Ctrl-C between a prompt and the reading of its answer is lost in Python."""
        until = time.monotonic() + 30
        self.type(key)
        while self.process.poll() is None:
            assert time.monotonic() < until, f"{key!r} did not end it: {self.said}"
            if select.select([self.master], [], [], 0.5)[0]:
                self._read()
            else:
                self.type(key)

    def end(self) -> tuple[int, str]:
        self.read_until("\0 never said \0")
        return self.process.wait(timeout=30), self.said


# The command


def test_help_fits_a_screen_and_names_every_command(home: Path) -> None:
    shown = quarterdeck(home, "--help")
    assert shown.returncode == 0
    for name in ("demo", "install", "doctor", "serve", "diagnose", "agents", "approve", "audit", "token"):
        assert re.search(rf"^\s+{name}\b", shown.stdout, re.MULTILINE), name
    assert len(shown.stdout.splitlines()) <= 30
    assert quarterdeck(home).stdout == shown.stdout


def test_the_version_is_told(home: Path) -> None:
    assert re.fullmatch(r"quarterdeck \d+\.\d+\.\d+\n", quarterdeck(home, "--version").stdout)


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["serve"], ["serve", "nothing"], ["serve", "logs", "--port", "x"]]
)
def test_a_wrong_command_is_a_short_message_and_no_traceback(arguments: list[str], home: Path) -> None:
    shown = quarterdeck(home, *arguments)
    assert shown.returncode == 2
    assert shown.stdout == ""
    assert "error:" in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("command", [["approve"], ["audit"], ["serve", "logs"], ["serve", "logs", "--http"]])
def test_a_broken_settings_file_is_named_with_its_line(command: list[str], home: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("[logs]\nsource = \n")
    shown = quarterdeck(home, *command, QUARTERDECK_CONFIG=str(broken))
    assert shown.returncode == 2
    assert shown.stdout == ""
    assert "broken.toml" in shown.stderr
    assert "line 2" in shown.stderr
    assert len(shown.stderr.splitlines()) == 1


def test_a_reader_that_goes_away_is_no_error(home: Path, changes: Changes) -> None:
    for number in range(30):
        waiting(changes, f"scale blog to {number} {'x' * 3000}")
    process = subprocess.Popen(
        [QUARTERDECK, "audit", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(home)
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(timeout=30) == 0


# Approving


def test_waiting_changes_are_listed(home: Path, changes: Changes) -> None:
    assert "No change waits" in quarterdeck(home, "approve").stdout
    pending = waiting(changes)
    shown = quarterdeck(home, "approve").stdout
    assert pending.id in shown
    assert "scale blog to 3" in shown
    assert "local:me (probe 1)" in shown


def test_a_yes_typed_in_a_terminal_grants(home: Path, changes: Changes) -> None:
    pending = waiting(changes)
    with Terminal(home, "approve", pending.id) as terminal:
        shown = terminal.read_until("waiting: ")
        for part in ("scale blog to 3", "deployment blog in prod", "before   2", "after    3", "undo     scale to 2"):
            assert part in shown
        terminal.type("Yes\n")
        code, said = terminal.end()
    assert code == 0
    assert "Allowed." in said
    assert changes.get(pending.id).state == "granted"
    assert changes.get(pending.id).granted_by.startswith("terminal of ")


@pytest.mark.parametrize(
    ("typed", "state", "code"),
    [
        ("no\n", "declined", 1),
        ("y\n", "pending", 1),
        ("\n", "pending", 1),
        ("\x04", "pending", 1),
        ("\x03", "pending", 130),
    ],
    ids=["no", "y", "nothing", "end of input", "Ctrl-C"],
)
def test_nothing_but_a_typed_yes_grants(typed: str, state: str, code: int, home: Path, changes: Changes) -> None:
    pending = waiting(changes)
    with Terminal(home, "approve", pending.id) as terminal:
        terminal.read_until("waiting: ")
        if typed == "\x03":
            terminal.press_until_it_ends(typed)
        else:
            terminal.type(typed)
        found, said = terminal.end()
    assert found == code
    assert "Traceback" not in said
    assert changes.get(pending.id).state == state


def test_a_change_with_terminal_escapes_is_shown_with_them_spelled_out(home: Path, changes: Changes) -> None:
    pending = waiting(changes, "scale blog\x1b[2K\x1b[1A \u202eto 3 \x1b]0;x\x07")
    with Terminal(home, "approve", pending.id) as terminal:
        shown = terminal.read_until("waiting: ")
    assert "\x1b[2K" not in shown
    assert "\u202e" not in shown
    assert "<U+001B>[2K<U+001B>[1A <U+202E>to 3" in shown


def test_a_yes_through_a_pipe_is_refused(home: Path, changes: Changes) -> None:
    pending = waiting(changes)
    shown = quarterdeck(home, "approve", pending.id, stdin="yes\n")
    assert shown.returncode == 2
    assert "this is a pipe" in shown.stderr
    unknown = quarterdeck(home, "approve", "ch-nothere1", stdin="yes\n")
    assert unknown.returncode == 2
    assert "There is no change 'ch-nothere1'" in unknown.stderr
    assert changes.get(pending.id).state == "pending"


@pytest.mark.parametrize("name", AGENT_SHELLS[:2])
def test_a_yes_in_a_shell_of_an_ai_client_is_refused(name: str, home: Path, changes: Changes) -> None:
    pending = waiting(changes)
    with Terminal(home, "approve", pending.id, **{name: "1"}) as terminal:
        terminal.type("yes\n")
        code, said = terminal.end()
    assert code == 2
    assert f"({name} is set)" in said
    assert changes.get(pending.id).state == "pending"


def test_anybody_may_say_no(home: Path, changes: Changes) -> None:
    pending = waiting(changes)
    assert quarterdeck(home, "approve", pending.id, "--decline", CLAUDECODE="1").returncode == 0
    assert changes.get(pending.id).state == "declined"


def test_an_unknown_or_decided_change_is_said(home: Path, changes: Changes) -> None:
    pending = waiting(changes)
    changes.grant(pending.id, "terminal of me")
    for id, said in ((pending.id, "already approved"), ("ch-nothere1", "There is no change")):
        with Terminal(home, "approve", id) as terminal:
            code, shown = terminal.end()
        assert code == 2
        assert said in shown


# The audit trail


def test_the_trail_is_listed_and_verified(home: Path, changes: Changes) -> None:
    assert "empty" in quarterdeck(home, "audit").stdout
    nothing = quarterdeck(home, "audit", "verify")
    assert (nothing.returncode, "nothing to verify" in nothing.stdout, "hash" in nothing.stdout) == (0, True, False)
    pending = waiting(changes)
    changes.decline(pending.id, "terminal of me", final=True)
    listed = quarterdeck(home, "audit", "list", "--change", pending.id).stdout.splitlines()
    assert ["requested" in listed[0], "declined" in listed[1]] == [True, True]
    stored = [json.loads(line) for line in quarterdeck(home, "audit", "--json", "--last", "1").stdout.splitlines()]
    assert [entry["event"] for entry in stored] == ["declined"]
    whole = quarterdeck(home, "audit", "verify")
    assert whole.returncode == 0
    assert whole.stdout.startswith("Whole: 2 lines")


def test_a_terminal_shows_as_much_of_a_line_as_fits_and_a_pipe_all(home: Path, changes: Changes) -> None:
    waiting(changes, "scale blog to 3 " + "저장소 " * 40 + "end")
    with Terminal(home, "audit", COLUMNS="90") as terminal:
        code, said = terminal.end()
    (line,) = said.splitlines()
    assert code == 0
    assert line.endswith("…")
    assert 85 <= sum(1 + (letter > "가") for letter in line) <= 90
    assert quarterdeck(home, "audit").stdout.rstrip().endswith("end")


def test_a_tampered_trail_is_told_with_its_line(home: Path, changes: Changes) -> None:
    waiting(changes)
    changes.trail.write_bytes(changes.trail.read_bytes().replace(b"blog", b"shop"))
    shown = quarterdeck(home, "audit", "verify")
    assert shown.returncode == 1
    assert "NOT WHOLE: line 1 was changed" in shown.stdout


# Tokens


def test_a_new_token_is_shown_once_and_its_settings_can_be_pasted(home: Path, tmp_path: Path) -> None:
    name = 'Kim 🙂 "ops"'
    shown = quarterdeck(home, "token", name, "--change").stdout
    token = re.search(r"qd_\S+", shown)
    assert token
    file = tmp_path / "pasted.toml"
    pasted = shown[shown.index("[[http.tokens]]") :].partition("\n\n")[0]
    file.write_text(pasted)
    from quarterdeck.keel.identity import find_token
    from quarterdeck.keel.settings import load

    found = find_token(load({"QUARTERDECK_CONFIG": str(file)}).http.tokens, token[0])
    assert found is not None
    assert (found.name, found.scopes) == (name, ["read", "change"])
    for step in ("quarterdeck.toml", "quarterdeck serve all --http", f"Authorization: Bearer {token[0]}"):
        assert step in shown
    assert quarterdeck(home, "token", "x" * 65).returncode == 2
    assert "counts as a person's" not in shown


def test_a_token_may_be_given_the_right_to_approve_and_it_is_said_what_that_is(home: Path) -> None:
    shown = quarterdeck(home, "token", "kim", "--approve").stdout
    assert 'scopes = ["read", "approve"]' in shown
    assert "counts as a person's: give it to people" in shown
    assert "`quarterdeck agents`" in shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_the_settings_of_a_token_can_be_pasted_from_any_terminal(encoding: str, home: Path) -> None:
    name = 'Zoë 김 🙂 "ops" \\x41'
    shown = subprocess.run(
        [QUARTERDECK, "token", name],
        capture_output=True,
        timeout=40,
        check=True,
        env=environment(home, PYTHONIOENCODING=encoding, PYTHONUTF8="0"),
    ).stdout.decode(encoding)
    pasted = shown[shown.index("[[http.tokens]]") :].partition("\n\n")[0]
    assert tomllib.loads(pasted)["http"]["tokens"][0]["name"] == name


# Serving over stdio


HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "e2e", "version": "1"}},
}


@pytest.fixture
def stdio(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [QUARTERDECK, "serve", "logs"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(home),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(HELLO).encode() + b"\n")
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["result"]["serverInfo"]["name"] == "logs"
    yield process
    process.kill()
    process.communicate()


def test_a_stdio_server_ends_when_its_client_closes_the_pipe(stdio: subprocess.Popen[bytes]) -> None:
    rest, errors = stdio.communicate(timeout=20)
    assert stdio.returncode == 0
    assert rest == b"", "stdout belongs to the protocol"
    assert b"Traceback" not in errors


def test_a_stdio_server_ends_on_ctrl_c_while_its_pipe_is_open(stdio: subprocess.Popen[bytes]) -> None:
    stdio.send_signal(signal.SIGINT)
    assert stdio.wait(timeout=20) == 130
    assert stdio.stderr is not None
    assert b"Traceback" not in stdio.stderr.read()


def test_several_servers_do_not_fit_one_stdio(home: Path) -> None:
    shown = quarterdeck(home, "serve", "logs", "stats")
    assert shown.returncode == 2
    assert "--http" in shown.stderr


async def test_a_change_is_asked_for_approved_in_a_terminal_done_and_recorded(home: Path, changes: Changes) -> None:
    transport = StdioTransport(sys.executable, ["-m", "quarterdeck.lever"], env=environment(home), keep_alive=False)
    async with Client(transport, client_info=Implementation(name="story", version="2.1")) as client:
        asked = (await client.call_tool("pull_lever", {"position": "up"})).structured_content
        assert asked is not None
        assert asked["status"] == "approval_required"
        with Terminal(home, "approve", asked["change_id"]) as terminal:
            terminal.read_until("waiting: ")
            terminal.type("yes\n")
            assert terminal.end()[0] == 0
        done = (await client.call_tool("pull_lever", {"position": "up"})).structured_content
        assert done is not None
        assert done["status"] == "done"
    listed = quarterdeck(home, "audit").stdout
    for event in ("requested", "granted", "started", "applied", "verified"):
        assert event in listed
    assert changes.get(asked["change_id"]).client == "story 2.1"
    assert changes.get(asked["change_id"]).caller.startswith("local:")
    assert changes.verify_trail().problem == ""


def test_a_server_stopped_in_the_middle_of_a_change_leaves_a_whole_trail(home: Path, changes: Changes) -> None:
    home.mkdir()
    (home / "hold").touch()
    (home / "rules.toml").write_text('[[changes.rules]]\ndecision = "allow"\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "quarterdeck.lever"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(home, QUARTERDECK_CONFIG=str(home / "rules.toml")),
    )
    try:
        assert process.stdin is not None
        call = {"jsonrpc": "2.0", "id": 2, "method": "tools/call"}
        call["params"] = {"name": "pull_lever", "arguments": {"position": "up"}}  # type: ignore[assignment]
        for message in (HELLO, {"jsonrpc": "2.0", "method": "notifications/initialized"}, call):
            process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.flush()
        until = time.monotonic() + 30
        while not (home / "started").exists():
            assert time.monotonic() < until, "the change did not start"
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)
    finally:
        process.kill()
        process.communicate()
    assert changes.verify_trail().problem == ""
    assert not (home / "pulls").exists()
    assert [pending for pending in changes.waiting() if pending.usable] == []


# Serving over HTTP


class Server:
    def __init__(self, home: Path, *command: str, **environ: str) -> None:
        self.home = home
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment(home, **environ))
        assert self.process.stderr is not None
        self.told = ""
        for line in self.process.stderr:
            self.told += line
            if "healthz" in line:
                break
        found = re.search(r"http://127\.0\.0\.1:(\d+)/healthz", self.told)
        assert found, self.told
        self.url = f"http://127.0.0.1:{found[1]}"
        self.port = int(found[1])

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        try:
            code = self.process.wait(timeout=20)
        finally:
            self.process.kill()
            self.process.communicate()
        return code


@pytest.fixture(scope="module")
def open_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """stats and logs on one port, for this machine, without tokens."""
    home = tmp_path_factory.mktemp("open") / "home"
    server = Server(home, QUARTERDECK, "serve", "stats", "logs", "--http", "--port", "0")
    yield server
    assert server.stop() == 130


@pytest.fixture(scope="module")
def closed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str, str]]:
    """The lever behind tokens: one may change, one may only read."""
    home = tmp_path_factory.mktemp("closed") / "home"
    (change, change_hash), (read, read_hash) = new_token(), new_token()
    config = home.parent / "tokens.toml"
    config.write_text(
        f'[[http.tokens]]\nname = "captain"\nsha256 = "{change_hash}"\nscopes = ["read", "change"]\n'
        f'[[http.tokens]]\nname = "guest"\nsha256 = "{read_hash}"\n'
    )
    server = Server(home, sys.executable, "-m", "quarterdeck.lever", "0", QUARTERDECK_CONFIG=str(config))
    yield server, change, read
    server.stop()


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=20) as client:
        yield client


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("name", ["stats", "logs"])
async def test_several_servers_share_one_port_in_both_eras(name: str, era: str, open_server: Server) -> None:
    async with Client(f"{open_server.url}/{name}", mode=era) as client:
        names = {tool.name for tool in await client.list_tools()}
    assert ("search_logs" in names) == (name == "logs")
    assert ("list_services" in names) == (name == "stats")


def test_health_and_metrics_answer(open_server: Server, http: httpx.Client) -> None:
    assert http.get(f"{open_server.url}/healthz").text == "ok\n"
    page = http.get(f"{open_server.url}/metrics")
    assert page.status_code == 200
    assert "quarterdeck_tool_calls" in page.text
    assert http.get(f"{open_server.url}/nothing").status_code == 404


def test_a_browser_is_told_which_paths_there_are_and_what_for(open_server: Server, http: httpx.Client) -> None:
    browser = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    page = http.get(open_server.url, headers=browser)
    assert (page.status_code, page.headers["content-type"].split(";")[0]) == (200, "text/plain")
    for path in ("/stats", "/logs", "/healthz", "/metrics"):
        assert f"{open_server.url}{path}\n" in page.text
    listed = http.get(open_server.url, headers={"accept": "application/json"}).json()
    assert listed["servers"] == {name: f"{open_server.url}/{name}" for name in ("stats", "logs")}
    hint = http.get(f"{open_server.url}/logs?<script>", headers=browser)
    assert hint.status_code == 405
    assert hint.headers["content-type"].startswith("text/plain")
    assert f"--transport http quarterdeck-logs {open_server.url}/logs\n" in hint.text


@pytest.mark.parametrize("headers", [{"accept": "text/event-stream"}, {"accept": "*/*", "mcp-session-id": "gone"}])
def test_a_get_of_an_mcp_client_reaches_the_server(
    headers: dict[str, str], open_server: Server, http: httpx.Client
) -> None:
    answer = http.get(f"{open_server.url}/logs", headers=headers)
    assert answer.headers["content-type"].startswith("application/json")
    assert "a browser cannot" not in answer.text


async def test_the_stream_of_an_older_client_still_opens(open_server: Server) -> None:
    url = f"{open_server.url}/logs"
    async with httpx.AsyncClient(timeout=20) as client:
        headers = {"accept": "application/json, text/event-stream"}
        begun = await client.post(url, json=HELLO, headers=headers)
        session = {"mcp-session-id": begun.headers["mcp-session-id"], "mcp-protocol-version": "2025-11-25"}
        async with client.stream("GET", url, headers={"accept": "text/event-stream", **session}) as stream:
            assert stream.status_code == 200
            assert stream.headers["content-type"].startswith("text/event-stream")
        assert (await client.delete(url, headers=session)).status_code in (200, 204)


@pytest.mark.parametrize("path", ["/logs", "/healthz", "/"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1.evil.example"}, 421),
        ({"host": "0.0.0.0"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1.evil.example"}, 403),
    ],
)
def test_a_web_page_elsewhere_reaches_nothing(
    headers: dict[str, str], status: int, path: str, open_server: Server, http: httpx.Client
) -> None:
    assert http.get(f"{open_server.url}{path}", headers=headers).status_code == status
    assert http.post(f"{open_server.url}{path}", headers=headers, json=HELLO).status_code == status


def test_a_port_in_use_is_said(home: Path, open_server: Server) -> None:
    shown = quarterdeck(home, "serve", "logs", "--http", "--port", str(open_server.port))
    assert shown.returncode == 2
    assert "Choose another with --port" in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "example.com"])
def test_without_a_token_only_this_machine_is_served(host: str, home: Path) -> None:
    shown = quarterdeck(home, "serve", "logs", "--http", "--host", host, "--port", "0")
    assert shown.returncode == 2
    assert "no bearer token is configured" in shown.stderr


@pytest.mark.parametrize("arguments", [["--port", "70000"], ["--port", "-1"]])
def test_a_port_that_is_none_is_said(arguments: list[str], home: Path) -> None:
    shown = quarterdeck(home, "serve", "logs", "--http", *arguments)
    assert shown.returncode == 2
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("authorization", [None, "Bearer qd_wrong", "Basic cWQ6cWQ=", "Bearer", "Bearer é"])
@pytest.mark.parametrize("path", ["/lever", "/metrics", "/"])
def test_without_a_right_token_nothing_is_answered(
    authorization: str | None, path: str, closed_server: tuple[Server, str, str], http: httpx.Client
) -> None:
    server, *_ = closed_server
    headers = {b"authorization": (authorization or "").encode()} if authorization else {}
    call = http.post if path == "/lever" else http.get
    answer = call(f"{server.url}{path}", headers=headers)
    assert answer.status_code == 401
    assert http.get(f"{server.url}{path}", headers=headers).status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert http.get(f"{server.url}/healthz").status_code == 200


@pytest.mark.parametrize("era", ERAS)
async def test_a_token_that_may_only_read_knows_no_change_tool(
    era: str, closed_server: tuple[Server, str, str]
) -> None:
    server, change, read = closed_server
    async with Client(f"{server.url}/lever", auth=read, mode=era) as client:
        assert {tool.name for tool in await client.list_tools()} == {"read_lever"}
        refused: Any = await client.call_tool("pull_lever", {"position": "up"}, raise_on_error=False)
        assert refused.is_error
        assert "no tool 'pull_lever'" in refused.content[0].text
    async with Client(f"{server.url}/lever", auth=change, mode=era) as client:
        assert {tool.name for tool in await client.list_tools()} == {"read_lever", "pull_lever"}


def test_metrics_are_for_any_right_token(closed_server: tuple[Server, str, str], http: httpx.Client) -> None:
    server, _, read = closed_server
    assert http.get(f"{server.url}/metrics", headers={"authorization": f"Bearer {read}"}).status_code == 200


@pytest.mark.parametrize("era", ERAS)
async def test_over_http_the_trail_names_the_token_and_the_client_program(
    era: str, closed_server: tuple[Server, str, str]
) -> None:
    server, change, _ = closed_server
    me = Implementation(name=f"probe-{era}", version="3.2")
    async with Client(f"{server.url}/lever", auth=change, mode=era, client_info=me) as client:
        answer = (await client.call_tool("pull_lever", {"position": f"to {era}"})).structured_content
    assert answer is not None
    pending = Changes(ChangesSettings(), server.home).get(answer["change_id"])
    assert (pending.caller, pending.client) == ("token:captain", f"probe-{era} 3.2")
