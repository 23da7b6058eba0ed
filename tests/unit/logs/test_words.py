"""What may be shown of a log: no secrets, nothing hidden, within its length."""

from quarterdeck.logs.records import Record, join
from quarterdeck.logs.sources import Hit
from quarterdeck.logs.words import Rows, exact, safe, said, stamp

KEY = "MIIEpAIBAAKCAQEA7bq3z0r1" * 3


def test_secrets_are_blotted_out_even_in_the_middle_of_a_key() -> None:
    shown = safe(f"login password=hunter22secret\n{KEY}\nAuthorization: Bearer abcdefghijkl")
    assert "hunter22" not in shown
    assert KEY not in shown
    assert "abcdefghijkl" not in shown
    assert shown.count("\n") == 2


def test_terminal_escapes_and_invisible_characters_are_gone() -> None:
    assert safe("\x1b[31mred\x1b[0m \u202eright\u200b to left\x07") == "red right to left"


def test_a_long_text_is_cut_in_its_middle_to_bytes_and_says_so() -> None:
    shown = safe("A" + "오류 " * 5000 + "Z", 1000)
    assert len(shown.encode()) <= 1000
    assert shown.startswith("A오류")
    assert shown.endswith("Z")
    assert "bytes left out" in shown


def test_a_row_says_the_time_once_and_the_level_where_the_text_does_not() -> None:
    (plain,) = join(["2026-11-21T04:00:00.5Z INFO up"], "pod-1")
    (klog,) = join(["E1121 04:00:00.5   1 x.go:1] no"], "pod-2")
    (json,) = join(['{"level":"error","ts":1795233600,"msg":"no"}'], "pod-1")
    assert said(plain) == "INFO up"
    assert said(klog) == "ERROR 1 x.go:1] no"
    assert said(json) == '{"level":"error","ts":1795233600,"msg":"no"}'
    rows = Rows([plain, json])
    assert rows.where() == " from pod-1 on 2026-11-21 (UTC)"
    assert rows.row(plain) == "04:00:00.500 INFO up"
    assert Rows([plain, klog]).row(plain) == "04:00:00.500 pod-1 INFO up"


def test_a_hit_marks_its_own_lines_among_their_context() -> None:
    record = Record("p", 0.0, "", "boom", "boom\n  at x")
    hit = Hit(record, ["before"], ["after"])
    assert Rows([record]).hit(hit) == "00:00:00.000\n  before\n> boom\n>   at x\n  after"


def test_times_are_in_utc_and_exact_ones_read_back() -> None:
    assert stamp(1795233600.5) == "2026-11-21T04:00:00.500Z"
    assert exact(1795233600.123456) == "2026-11-21T04:00:00.123456Z"
    assert stamp(None) == "(no time)"
