"""Loopback is reached without the proxy of the machine."""

from __future__ import annotations

from quarterdeck.keel.proxies import spare_loopback


def test_without_a_proxy_nothing_changes() -> None:
    environ = {"PATH": "/bin", "NO_PROXY": "corp.example"}
    spare_loopback(environ)
    assert environ == {"PATH": "/bin", "NO_PROXY": "corp.example"}


def test_with_a_proxy_loopback_joins_what_is_spared_already_once() -> None:
    environ = {"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": "corp.example, localhost"}
    spare_loopback(environ)
    spare_loopback(environ)
    assert environ["no_proxy"] == environ["NO_PROXY"] == "corp.example,localhost,127.0.0.1,::1"
    assert environ["HTTPS_PROXY"] == "http://proxy.example:3128"
