"""Check a model in a real browser: a verdict grows, counts open their images, next actions compare, files go in."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect  # noqa: E402

from dynat_core.store import evaluations  # noqa: E402
from tests.browser.pages import button, wait_query  # noqa: E402
from tests.running import until  # noqa: E402

pytestmark = pytest.mark.browser
SHIPPED = Path(__file__).parents[2] / "checkpoints" / "demo-digits-standard"
RUN = "my-network"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("check") / "store"
    shutil.copytree(SHIPPED, made / RUN)
    shutil.rmtree(made / RUN / "evaluations", ignore_errors=True)
    return made


@pytest.fixture
def page(new_page, serve, folder) -> Page:
    address = serve("app.py", DYNAT_STORE=str(folder), DYNAT_WORKER_IDLE="2", OMP_NUM_THREADS="1")
    page = new_page()
    page.goto(f"{address}/check?run={RUN}")
    expect(page.locator(".dynat-question")).to_be_visible()
    return page


def typed(page: Page, label: str, value: str) -> None:
    field = page.get_by_label(label, exact=True)
    field.fill(value)
    field.press("Enter")


def test_a_weak_check_says_so_its_counts_open_and_its_next_action_is_compared(page, folder):
    expect(page.get_by_text("Not yet checked")).to_be_visible()
    page.get_by_role("button", name="Settings").click()
    for label, value in (("test images", "60"), ("PGD steps", "6"), ("restarts", "2")):
        typed(page, label, value)
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Check now").click()
    sentence = page.locator(".dynat-sentence.loud").first
    expect(sentence).to_contain_text("insufficient, because")
    expect(sentence).to_contain_text("n = 60")
    (check,) = [e for e in evaluations.evaluations(folder / RUN) if e.kind == "check"]
    found = (check.result() or {})["verdict"]
    light = found["lights"][0]
    assert light["name"] == "optimised" and not light["ok"] and f"{len(light['images'])} of " in light["sentence"]
    expect(page.locator(".dynat-light")).to_have_count(3)
    expect(page.locator(".js-plotly-plot").first).to_be_visible()

    page.locator(".st-key-" + f"next-{check.name}-more-steps").get_by_role("button").click()
    expect(page.get_by_text(re.compile("robust accuracy .* before, .* after"))).to_be_visible()
    (again,) = [e for e in evaluations.evaluations(folder / RUN) if e.kind == "again"]
    result = again.result() or {}
    expect(page.get_by_text(f"{len(result['newly_broken'])} newly broken", exact=False).first).to_be_visible()

    page.get_by_role("button", name=f"Open these {len(light['images'])} images").click()
    wait_query(page, "trajectory", image=str(light["images"][0]), images="*")
    expect(page.get_by_text(re.compile("margin"), exact=False).first).to_be_visible()
    page.wait_for_selector(".dy[data-ready]")
    expect(page.get_by_text(f"{len(light['images'])} images", exact=False).first).to_be_visible()


def test_a_ladder_is_a_job_that_can_be_stopped_and_goes_on(page, folder):
    page.get_by_role("tab", name="Ladder of attacks").click()
    typed(page, "images on the ladder", "490")  # enough that it does not end before it is stopped
    page.get_by_role("button", name="Climb the ladder").click()
    ladders = lambda: [e for e in evaluations.evaluations(folder / RUN) if e.kind == "ladder"]  # noqa: E731
    until(lambda: bool(ladders()), "a ladder is asked for")
    assert ladders()[0].settings.n == 490
    button(page, "Stop").click()
    until(lambda: ladders()[0].state == "stopped", "it stops")
    button(page, "Go on").click()
    until(lambda: ladders()[0].state in ("running", "finished"), "it goes on")
    if ladders()[0].state != "finished":  # the screen would have to be as quick as this look
        ladders()[0].request_stop()
    until(lambda: ladders()[0].state in ("stopped", "finished"), "it stops")


def test_a_file_of_weights_becomes_a_model_and_a_program_is_refused(page, folder, tmp_path):
    page.get_by_role("button", name="Add a model").click()
    page.locator('input[type="file"]').set_input_files(str(SHIPPED / "weights" / "0030.safetensors"))
    expect(page.get_by_text("0030.safetensors").first).to_be_visible()
    page.get_by_role("button", name="Add it").click()
    page.wait_for_url(re.compile(r"run=.*imported"))
    expect(page.get_by_text("of 500 clean images right", exact=False).first).to_be_visible()
    brought = [path for path in folder.iterdir() if "imported" in path.name]
    assert len(brought) == 1 and (brought[0] / "weights" / "0000.safetensors").is_file()


def test_an_upload_that_is_no_model_is_one_sentence(page, folder, tmp_path):
    bad = tmp_path / "bad.pt"
    bad.write_bytes(b"PK\x03\x04 nothing of the kind")
    page.get_by_role("button", name="Add a model").click()
    page.locator('input[type="file"]').set_input_files(str(bad))
    expect(page.get_by_text("bad.pt").first).to_be_visible()
    page.get_by_role("button", name="Add it").click()
    alert = page.locator('[data-testid="stAlert"]')
    expect(alert).to_contain_text("bad.pt")
    assert "Traceback" not in alert.inner_text()
