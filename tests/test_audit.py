"""The audit of packages against a list of known holes on this machine, and what it says where there is none."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytest.importorskip("pip_audit")
from tools import audit  # noqa: E402

FEW = {"click": "8.1.0", "jinja2": "3.1.0"}


@contextmanager
def advisories(holes: dict[str, str]) -> Iterator[tuple[str, list[str]]]:
    """(address, packages asked for) of a list that knows of `holes`, package -> id; it speaks OSV's language."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name = question["package"]["name"]
            asked.append(name)
            ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}]
            affected = [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": ranges, "versions": []}]
            hole = {"id": holes.get(name), "summary": "a hole", "details": "a hole", "affected": affected,
                    "published": "2026-01-01T00:00:00Z", "modified": "2026-01-01T00:00:00Z"}  # fmt: skip
            content = json.dumps({"vulns": [hole]} if name in holes else {}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query", asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def few(monkeypatch):
    """A product of two packages."""
    monkeypatch.setattr(audit, "shipped", lambda files: FEW)


def test_a_known_hole_is_found_in_lint_and_audit_and_no_clean_day_is_noted(few, monkeypatch, tmp_path, capsys):
    with advisories({"jinja2": "GHSA-test"}) as (address, asked):
        monkeypatch.setenv(audit.SERVICE, address)
        assert audit.lint(tmp_path / "stamp") == 1
        assert "jinja2 3.1.0: GHSA-test, mended in 99." in capsys.readouterr().out
        assert sorted(asked) == ["click", "jinja2"]
        monkeypatch.setitem(audit.ACCEPTED, "GHSA-test", "templates here come from nobody else")
        assert audit.audit() == 0
        assert "accepted: GHSA-test" in capsys.readouterr().out
    assert not (tmp_path / "stamp").exists()


def test_a_clean_audit_holds_for_the_day_and_these_packages(few, monkeypatch, tmp_path):
    stamp = tmp_path / "stamp"
    with advisories({}) as (address, asked):
        monkeypatch.setenv(audit.SERVICE, address)
        assert audit.lint(stamp) == 0 and len(asked) == 2
        assert audit.lint(stamp) == 0 and len(asked) == 2
        stamp.write_text("of another day")
        assert audit.lint(stamp) == 0 and len(asked) == 4


def test_without_a_network_lint_says_so_and_passes_and_an_audit_does_not_pretend(few, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(audit.SERVICE, "http://127.0.0.1:9/v1/query")
    assert audit.lint(tmp_path / "stamp") == 0
    assert "NOT AUDITED" in capsys.readouterr().out
    assert audit.audit() == 2
    assert "2 packages are not audited" in capsys.readouterr().err
    assert not (tmp_path / "stamp").exists()


@pytest.mark.parametrize(
    "line, fine",
    [
        ("torch>=2.14.1,<2.15", True),
        ("foolbox==3.3.4", True),
        ("numpy", False),
        ("numpy>=2", False),
        ("numpy<3", False),
        ("git+https://example.org/x.git", False),
    ],
)
def test_a_requirement_without_two_ends_is_found(tmp_path: Path, line, fine):
    (tmp_path / "requirements.txt").write_text(f"# packages\n-r other.txt\n{line}  # why\n")
    assert (audit.loose([tmp_path / "requirements.txt"]) == []) is fine


def test_what_is_shipped_is_what_the_requirements_bring_along_and_no_tool_of_the_tests():
    found = audit.shipped(file for file in audit.requirements() if file.name not in audit.NOT_SHIPPED)
    assert {"streamlit", "starlette", "torch", "pillow"} <= found.keys()
    assert not {"pytest", "ruff", "foolbox"} & found.keys()
