"""Settings: environment over file over defaults; every mistake is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.settings import Settings, config_path, load, unknown_variables


def written(tmp_path: Path, text: str, **environ: str) -> Settings:
    file = tmp_path / "quarterdeck.toml"
    file.write_text(text, encoding="utf-8")
    return load({"QUARTERDECK_CONFIG": str(file), **environ})


def refusal(tmp_path: Path, text: str, **environ: str) -> str:
    with pytest.raises(Refusal) as caught:
        written(tmp_path, text, **environ)
    said = str(caught.value)
    assert len(said) < 500
    assert "pydantic" not in said
    return said


def test_without_a_file_the_defaults_work(tmp_path: Path) -> None:
    settings = load({"XDG_CONFIG_HOME": str(tmp_path)})
    assert settings.changes.default == "ask"
    assert settings.http.host == "127.0.0.1"
    assert settings.read_only is False


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    settings = written(
        tmp_path,
        '[logs]\nloki_url = "http://file"\n[logs.files]\nblog = "/a"\n[changes]\ngrant_s = 5\n',
        QUARTERDECK_LOGS_LOKI_URL="http://environment",
        QUARTERDECK_LOGS_FILES="auth=/b/*.log, user=/c",
        QUARTERDECK_KUBECTL_NAMESPACES="one, two,",
    )
    assert settings.logs.loki_url == "http://environment"
    assert settings.logs.files == {"auth": "/b/*.log", "user": "/c"}
    assert settings.kubectl.namespaces == ["one", "two"]
    assert settings.changes.grant_s == 5


@pytest.mark.parametrize("text", ["1", "true", "yes", "on"])
def test_read_only_takes_the_usual_spellings(text: str) -> None:
    assert load({"QUARTERDECK_READ_ONLY": text, "XDG_CONFIG_HOME": "/nowhere"}).read_only is True


def test_a_doubtful_read_only_stops_the_start_rather_than_meaning_no(tmp_path: Path) -> None:
    for text in ("maybe", ""):
        assert "QUARTERDECK_READ_ONLY" in refusal(tmp_path, "", QUARTERDECK_READ_ONLY=text)


def test_rules_and_tokens_come_from_the_file_only(tmp_path: Path) -> None:
    settings = written(
        tmp_path,
        '[[changes.rules]]\ndecision = "deny"\nnamespace = "prod*"\n',
        QUARTERDECK_CHANGES_RULES='[{"decision": "allow"}]',
        QUARTERDECK_HTTP_TOKENS="[]",
    )
    assert [rule.decision for rule in settings.changes.rules] == ["deny"]


def test_policy_cannot_allow_everything_by_default(tmp_path: Path) -> None:
    assert "changes.default" in refusal(tmp_path, '[changes]\ndefault = "allow"\n')


def test_the_folder_one_stands_in_brings_no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "quarterdeck.toml").write_text("read_only = true\n")
    monkeypatch.chdir(tmp_path)
    assert load({"XDG_CONFIG_HOME": str(tmp_path / "elsewhere")}).read_only is False


def test_broken_toml_is_named_with_its_line(tmp_path: Path) -> None:
    said = refusal(tmp_path, "[logs]\nloki_url = \n")
    assert "quarterdeck.toml" in said
    assert "line 2" in said


def test_an_unknown_setting_is_named_with_what_it_may_have_meant(tmp_path: Path) -> None:
    said = refusal(tmp_path, '[logs]\nloki_ulr = "x"\n')
    assert "logs.loki_ulr" in said
    assert "'loki_url'" in said
    assert "There are" in refusal(tmp_path, "[zzz]\nx = 1\n")


def test_a_wrong_value_is_named_with_where_it_stands(tmp_path: Path) -> None:
    assert "quarterdeck.toml" in refusal(tmp_path, "[http]\nport = 99999\n")
    assert "QUARTERDECK_HTTP_PORT" in refusal(tmp_path, "", QUARTERDECK_HTTP_PORT="many")
    assert "changes.rules.0.decision" in refusal(tmp_path, '[[changes.rules]]\ndecision = "perhaps"\n')


def test_a_value_where_a_section_belongs_is_a_refusal(tmp_path: Path) -> None:
    assert "stats" in refusal(tmp_path, "stats = 5\n", QUARTERDECK_STATS_URL="http://x")


@pytest.mark.parametrize("raw", [b"\xff\xfe\x00", b"\x00" * 10, b"[" * 5000])
def test_a_file_of_garbage_is_a_refusal(tmp_path: Path, raw: bytes) -> None:
    file = tmp_path / "quarterdeck.toml"
    file.write_bytes(raw)
    with pytest.raises(Refusal, match=r"quarterdeck\.toml"):
        load({"QUARTERDECK_CONFIG": str(file)})


def test_a_named_file_that_is_not_there_is_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="not there"):
        load({"QUARTERDECK_CONFIG": str(tmp_path / "none.toml")})
    with pytest.raises(Refusal, match="cannot be read"):
        load({"QUARTERDECK_CONFIG": str(tmp_path)})


def test_a_secret_in_the_settings_shows_in_no_dump_and_no_error(tmp_path: Path) -> None:
    settings = written(tmp_path, '[stats]\nprometheus_token = "planted-4711"\n')
    assert "planted" not in repr(settings) + settings.model_dump_json()
    assert "planted" not in refusal(tmp_path, '[[http.tokens]]\nname = "a"\nsha256 = "planted-4711"\n')
    assert "planted" not in refusal(tmp_path, '[stats]\nprometheus_token = ["planted-4711"]\n')


def test_a_tilde_in_a_path_means_home(tmp_path: Path) -> None:
    assert "~" not in str(written(tmp_path, 'home = "~/deck"\n').home)
    assert "~" not in str(config_path({}))


def test_a_user_without_a_home_is_told_what_to_set(tmp_path: Path) -> None:
    assert "QUARTERDECK_HOME" in refusal(tmp_path, 'home = "~no-such-user-here/deck"\n')


def test_slips_of_the_pen_in_variable_names_are_found() -> None:
    environ = {"QUARTERDECK_LOG_FILES": "x", "QUARTERDECK_HOME": "x", "QUARTERDECK_TEST_KUBECONFIG": "x", "PATH": "x"}
    assert unknown_variables(environ) == ["QUARTERDECK_LOG_FILES"]


def test_settings_cannot_be_changed_once_read() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load({"XDG_CONFIG_HOME": "/nowhere"}).changes.default = "deny"  # type: ignore[misc]


def test_a_slip_in_the_file_is_answered_in_whole_sentences(tmp_path: Path) -> None:
    path = tmp_path / "q.toml"
    path.write_text('[kubectl]\nnamspace = "x"\n')
    path.chmod(0o600)
    with pytest.raises(Refusal) as told:
        load({"QUARTERDECK_CONFIG": str(path)})
    assert str(told.value) == f"There is no setting 'kubectl.namspace'; it stands in {path}. Did you mean 'namespace'?"
