"""What the guides say is so: commands exist, files and presets they name are there, links lead somewhere.

A command is never run as it stands (it would install, train or serve): it is asked whether it would understand.
"""

from __future__ import annotations

import argparse
import ast
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from dynat_core.errors import DynatError
from dynat_core.presets import PRESETS, preset

ROOT = Path(__file__).resolve().parent.parent
GUIDES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")]
GUIDES += sorted((ROOT / "docs").glob("*.md"))
TEXT = {".md", ".py", ".toml", ".txt", ".yaml", ".yml", ".json", ".jsonl", ".js", ".css", ".html", ".sh", ""}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, language: str) -> list[str]:
    """The fenced blocks of one language in a guide."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def commands() -> list[tuple[str, str]]:
    """(guide, command) for every line of every shell block, `a && b` taken apart."""
    found = []
    for guide in GUIDES:
        for block in blocks(guide, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                line = line.partition(" # ")[0]
                found += [(name_of(guide), part.strip()) for part in line.split("&&") if part.strip()]
    return found


COMMANDS = commands()
CASES = pytest.mark.parametrize("command", sorted({command for _, command in COMMANDS}))


def words(command: str) -> list[str]:
    """The command's words, without leading VARIABLE=value."""
    parts = shlex.split(command)
    while parts and re.fullmatch(r"[A-Z_]+=.*", parts[0]):
        parts.pop(0)
    return parts


@cache
def make_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    listed = re.findall(r"^DEMOS := ((?:.*\\\n)*.*)", text, flags=re.M)
    return set(re.findall(r"^([a-z-]+):", text, flags=re.M)) | set(listed[0].replace("\\", " ").split())


def make_words(parts: list[str]) -> list[str]:
    return [part for part in parts[1:] if "=" not in part]


@cache
def help_of(subcommand: str) -> str:
    """What the command line says about one of its verbs."""
    done = subprocess.run(
        [sys.executable, "-m", "dynat_core", subcommand, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"python -m dynat_core {subcommand} --help: {done.stderr}"
    return done.stdout


def check_core(parts: list[str]) -> None:
    """A `python -m dynat_core` line: the verb exists, its options too, and its settings build a config."""
    verb, *rest = parts
    text = help_of(verb)
    for option in (word for word in rest if word.startswith("--")):
        assert option in text, f"{verb} has no option {option}"
    if verb == "train":
        parser = argparse.ArgumentParser()
        parser.add_argument("--preset")
        parser.add_argument("--set", action="append", default=[])
        known, _ = parser.parse_known_args(rest)
        preset(known.preset).with_values(dict(setting.split("=", 1) for setting in known.set))


@CASES
def test_a_command_in_the_guides_would_work(command):
    parts = words(command)
    first = Path(parts[0]).name
    if first == "make":
        assert set(make_words(parts)) <= make_targets()
    elif "dynat_core" in parts:
        check_core(parts[parts.index("dynat_core") + 1 :])
    elif "-r" in parts:
        assert (ROOT / parts[parts.index("-r") + 1]).is_file()
    elif first == "streamlit":
        assert parts[1] == "run"
        assert (ROOT / parts[2]).is_file()
    elif first == "docker":
        check_docker(parts[1:])
    elif first == "ray":
        assert parts[1] == "start" and ("--head" in parts) != any(part.startswith("--address=") for part in parts)
    elif "pytest" in parts:
        assert all((ROOT / part).exists() for part in parts if part.startswith("tests/"))
    else:
        assert first in {"python3.11", "ssh", "cd", "sudo", "apt", "git", "rsync"}, f"nothing checks {command!r}"


def check_docker(parts: list[str]) -> None:
    """A compose line names a service and profile that exist; a run publishes its port to this machine alone."""
    file = parts[parts.index("-f") + 1] if "-f" in parts else "compose.yaml"
    compose = (ROOT / file).read_text(encoding="utf-8")
    if parts[0] == "compose":
        for place, part in enumerate(parts):
            if part == "--profile":
                assert f"profiles: [{parts[place + 1]}]" in compose
        services = {"up", "exec"}
        at = next((place for place, part in enumerate(parts) if part in services), None)
        if at is not None and at + 1 < len(parts):
            assert f"\n  {parts[at + 1]}:\n" in compose
    elif parts[0] == "run":
        published = [parts[place + 1] for place, part in enumerate(parts) if part == "-p"]
        assert published
        assert all(port.startswith("127.0.0.1:") for port in published)
    else:
        assert parts[0] == "build"


@pytest.mark.parametrize("guide", GUIDES, ids=name_of)
def test_links_between_the_guides_lead_somewhere(guide):
    text = guide.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (guide.parent / path).resolve() if path else guide
        assert place.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", place.read_text(encoding="utf-8"), flags=re.M)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, target


@pytest.mark.parametrize("guide", GUIDES, ids=name_of)
def test_python_in_the_guides_is_python(guide):
    for block in blocks(guide, "python"):
        imports = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Import | ast.ImportFrom)]
        for node in imports:  # what a guide imports of ours is there; what people have themselves need not be
            if ast.unparse(node).startswith(("from dynat_core", "import dynat_core")):
                exec(ast.unparse(node), {})


@pytest.mark.parametrize("guide", GUIDES, ids=name_of)
def test_settings_and_presets_named_in_the_guides_exist(guide):
    text = guide.read_text(encoding="utf-8")
    for name in re.findall(r"`((?:demo|mnist|cifar10|wrn)-[a-z-]+)`", text):
        assert name in PRESETS or name.endswith("-cnn"), name
    for setting in re.findall(r"--set ([a-zA-Z_.]+=[^\s`]+)", text):
        key, value = setting.split("=", 1)
        try:
            preset("mnist-dynamic").with_values({key: value})
        except DynatError as error:  # a value that does not fit this preset is fine, a key that is not there is not
            assert "unknown" not in str(error).lower(), setting


@pytest.mark.parametrize("guide", GUIDES, ids=name_of)
def test_files_named_in_the_guides_exist(guide):
    text = guide.read_text(encoding="utf-8")
    named = re.findall(r"`((?:dynat_core|ui|tests|docs|tools|benchmarks|pages)/[\w./-]*)`", text)
    assert not [path for path in named if not (ROOT / path).exists()]


def test_every_guide_is_listed():
    listed = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for guide in (ROOT / "docs").glob("*.md"):
        assert guide.name == "README.md" or f"({guide.name})" in listed


def test_demo_runs_made_by_make_are_the_shipped_presets():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert set(re.findall(r"\bdemo-[a-z-]+\b", text.split("DEMO_STORE")[0])) == {
        name for name in PRESETS if name.startswith("demo-")
    }


def tracked_files() -> list[Path]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name]


def test_no_file_knows_the_folders_of_the_machine_it_was_written_on():
    private = re.compile(r"(?<![\w.~-])/(?:work|root|Users|home/(?!dynat/)\w+)/")
    guilty = []
    for path in tracked_files():
        if path.suffix in TEXT and path.is_file() and path != Path(__file__).resolve():
            text = path.read_text(encoding="utf-8", errors="ignore")
            guilty += [f"{name_of(path)}: {found.group()}" for found in private.finditer(text)]
    assert not guilty


def test_the_shipped_runs_fit_into_a_checkout():
    shipped = [path for path in tracked_files() if name_of(path).startswith("checkpoints/") and path.is_file()]
    assert sum(path.stat().st_size for path in shipped) < 25e6
