"""Learn in a real browser: its maths against the Python reference, and a walk through it by mouse, keys and links."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, expect  # noqa: E402

from dynat_core.theory import playground as pg  # noqa: E402
from tests.browser.conftest import ROOT  # noqa: E402
from tests.browser.pages import drawn, settled, wait_query, watch  # noqa: E402
from ui.playground import offline_page  # noqa: E402

pytestmark = pytest.mark.browser
TOLERANCE = 1e-9
TRAINING = "\n".join(
    (ROOT / "ui" / "playground" / f"{name}.js").read_text(encoding="utf-8") for name in ("state", "training")
)
MATHS = (ROOT / "ui" / "playground" / "maths.js").read_text(encoding="utf-8")


@pytest.fixture
def open_page(new_page) -> Callable[..., Page]:
    """open_page(address, **media) -> the page once it is drawn."""

    def go(address: str, **media) -> Page:
        page = new_page(**media)
        page.goto(address)
        page.wait_for_selector(".pg[data-ready]")
        return page

    return go


@pytest.fixture
def learn(open_page, shipped) -> Callable[..., Page]:
    """learn(query, **media) -> the screen itself, from a server."""
    return lambda query="", **media: open_page(f"{shipped}/learn?{query}", **media)


@pytest.fixture
def saved(open_page, tmp_path) -> Callable[..., Page]:
    """saved(query, **media) -> the page as one file, opened without a server."""
    path = tmp_path / "learn.html"
    path.write_text(offline_page(), encoding="utf-8")
    return lambda query="", **media: open_page(f"file://{path}?{query}", **media)


@pytest.fixture(scope="module")
def maths(chromium) -> Iterator[Callable]:
    """maths(expression, argument) -> what the browser's maths answers."""
    page = chromium.new_page()
    page.set_content(f"<script>{MATHS}</script>")
    yield page.evaluate
    page.close()


def differences(a, b) -> Iterator[float]:
    """How far numbers at the same places of two nested answers lie apart; anything else must be the same."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            yield from differences(a[key], b[key])
    elif isinstance(a, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            yield from differences(x, y)
    elif isinstance(a, (int, float)) and isinstance(b, (int, float)):
        yield abs(a - b)
    else:
        assert a == b


def plain(place: pg.Stand) -> dict:
    """What the browser's `stand` says of the same place."""
    seen = place.seen
    return {
        "z": place.z,
        "loss": seen.loss,
        "grad": seen.grad,
        "logits": seen.logits,
        "fosc": place.fosc,
        "paper": place.paper,
        "middle": place.middle,
        "best": place.best,
        "steepness": place.steepness,
        "relative": place.relative,
        "relativePaper": place.relative_paper,
    }


def same_types(value):
    return json.loads(json.dumps(value))


def test_a_thousand_random_states_agree_with_the_reference(maths):
    rng, states, expected = random.Random(20), [], []
    for k in range(1200):
        classes, norm = rng.choice((2, 3)), rng.choice(("linf", "l2"))
        size = len(pg.untrained(classes, 1).weights)
        state = {
            "w": [rng.uniform(-2, 2) for _ in range(size)],
            "classes": classes,
            "norm": norm,
            "y": rng.randrange(classes),
            "x": [rng.random(), rng.random()],
            "eps": rng.uniform(0.02, 0.5),
            "r": [rng.random(), rng.random()],
            "alpha": rng.uniform(0.005, 0.3),
            "k": k % 12,
            "seed": rng.randrange(1, 10**6),
        }
        net, ball = pg.Network(classes, state["w"]), pg.Ball((state["x"][0], state["x"][1]), state["eps"], norm)
        start = ball.start((state["r"][0], state["r"][1]))
        path = [plain(place) for place in pg.climb(net, ball, state["y"], start, state["alpha"], 4)]
        mean = pg.mean_relative(net, ball, state["y"], state["alpha"], 3, 2, state["seed"])
        expected.append([path, mean, pg.expectation(state["k"], state["alpha"], k % 2 == 0, norm)])
        states.append(state)
    found = maths(
        """text => JSON.stringify(JSON.parse(text).map((s, k) => {
          const net = {classes: s.classes, w: s.w}, ball = {x: s.x, eps: s.eps, norm: s.norm};
          return [climb(net, ball, s.y, startPoint(ball, s.r), s.alpha, 4),
            meanRelative(net, ball, s.y, s.alpha, 3, 2, s.seed), expectation(s.k, s.alpha, k % 2 === 0, s.norm)];
        }))""",
        json.dumps(states),  # as text: the browser driver is slow with many numbers
    )
    worst = max(differences(same_types(expected), json.loads(found)))
    print(f"largest difference over {len(states)} states: {worst:.1e}")
    assert worst < TOLERANCE


@pytest.mark.parametrize("data", ["moons", "rings", "three"])
def test_points_random_numbers_and_training_agree_with_the_reference(maths, data):
    found = maths(
        """data => ["unsecured", "standard", "dynamic"].map(strategy => {
          const run = prepare({data, strategy, seed: 3, eps: 0.13});
          for (let k = 0; k < 3; k++) trainEpoch(run);
          return [run.points.x, run.points.y, run.net.w, run.gradients, threshold(run)];
        })""",
        data,
    )
    expected = []
    for strategy in ("unsecured", "standard", "dynamic"):
        run = pg.Training(data, strategy, 3, 0.13)
        for _ in range(3):
            run.advance()
        expected.append([run.points, run.labels, run.net.weights, run.gradients, run.threshold()])
    assert max(differences(same_types(expected), found)) < TOLERANCE


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)
    drawn(page)


def step(page: Page) -> int:
    drawn(page)
    return int(page.locator(".pg-at").inner_text())


def wait_settings(page: Page, query: str) -> None:
    """Wait until the address says these settings; it follows when the hand rests."""
    page.wait_for_function("query => window.dynatLearn !== undefined && location.search.slice(1) === query", arg=query)


def test_the_lesson_is_walked_through_and_goes_on_to_real_pictures(learn):
    page = learn("teach=1")
    answers = {2: "upper right", 4: "4 steps", 5: "more", 6: "no, it works", 7: "only that the slope offers no way up"}
    for stop in range(1, 10):
        expect(page.locator(".pg-head small")).to_contain_text(f"{stop} of 9")
        if stop in answers:
            press(page, "End")
            expect(page.locator(".pg-why")).to_have_count(0)
            press(page, "1", "Enter")
            expect(page.locator(".pg-right")).to_contain_text(answers[stop])
            expect(page.locator(".pg-why")).to_be_visible()
        press(page, "]")
    expect(page.locator("a.pg-go")).to_have_count(1)
    press(page, "[")
    page.get_by_role("link", name="A digit, step by step").click()
    page.wait_for_url(re.compile(r"/trajectory\?.*run=demo-digits-unsecured"))
    wait_query(page, "trajectory", teach="1")
    page.go_back()
    expect(page.locator(".pg-head small")).to_contain_text("8 of 9")


def test_a_stop_chosen_by_keyboard_keeps_the_focus(saved):
    page = saved("stop=2")
    focused = "() => { const {stop, do: what} = document.activeElement.dataset; return stop ?? what; }"
    page.locator(".pg-pip").nth(7).focus()
    press(page, "Enter")
    expect(page.locator(".pg-head small")).to_contain_text("8 of 9")
    assert page.evaluate(focused) == "8"
    page.locator(".pg-tour [data-do=next]").focus()
    press(page, "Enter")
    expect(page.locator(".pg-head small")).to_contain_text("9 of 9")
    assert page.evaluate(focused) == "previous"  # there is nothing after the last


def test_a_network_that_is_still_learning_keeps_no_score(chromium):
    page = chromium.new_page()
    page.set_content(f"<script>{MATHS}\n{TRAINING}</script>")
    seen, kept, true = page.evaluate(
        """() => {
          const run = prepare({data: "three", strategy: "standard", seed: 3, eps: 0.13});
          trainEpoch(run);
          scoreWords(run);
          const seen = run.scored ?? null;
          while (run.epoch < run.epochs) trainEpoch(run);
          scoreWords(run);
          return [seen, run.scored, score(run)];
        }"""
    )
    page.close()
    assert seen is None and kept == true


def test_a_waiting_question_keeps_back_what_it_asks_for(saved):
    page = saved("stop=2")
    expect(page.locator(".pg-arrow").first).to_be_hidden()
    expect(page.locator("path.pg-best").first).to_be_hidden()
    press(page, "ArrowRight", "End", " ")
    assert step(page) == 0
    page.locator(".pg-corner").nth(1).click()
    expect(page.locator("[data-guess='1']")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Reveal").click()
    expect(page.locator(".pg-why")).to_contain_text("Right.")
    assert step(page) == 1
    press(page, "r")
    expect(page.get_by_role("button", name="Reveal")).to_be_visible()
    press(page, "]", "]", "1", "Enter")  # the fourth stop plays by itself
    page.wait_for_function("+document.querySelector('.pg-at').textContent > 0")


def test_two_starts_of_the_last_question_both_rest_and_one_is_fooled(saved):
    page = saved("stop=7")
    expect(page.locator(".pg-reads")).to_have_text("says ■ C, is ■ C")
    expect(page.locator(".pg-equation b")).to_have_text("FOSC 0")
    press(page, "3", "Enter")
    words = page.locator(".pg-other-text")
    expect(words).to_contain_text("FOSC 0")
    assert float(re.findall(r"loss ([\d.]+)", words.text_content() or "")[0]) > 3


def test_dragging_asks_nobody_and_is_drawn_at_once(learn):
    page = learn()
    sent = []
    client = page.context.new_cdp_session(page)
    client.send("Network.enable")
    client.on("Network.webSocketFrameSent", lambda frame: sent.append(frame))
    settled(page)
    page.wait_for_timeout(300)
    sent.clear()
    page.evaluate("document.querySelector('.pg').drawn.length = 0")
    box = page.locator(".pg-x").bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for k in range(1, 31):
        page.mouse.move(x + 4.5 * k, y - 1.8 * k)
        drawn(page)  # each in the next frame
    page.mouse.up()
    drawn(page)
    took = sorted(page.evaluate("document.querySelector('.pg').drawn"))
    print(f"drawing while dragging: {len(took)} frames, median {took[len(took) // 2]:.2f} ms, most {took[-1]:.2f} ms")
    assert len(took) >= 30
    press(page, "ArrowRight", "End", "Home")
    wait_query(page, x="*")
    page.wait_for_timeout(300)
    assert not sent
    assert re.search(r"x=0\.\d+,0\.\d+", page.url)


def test_the_point_and_every_setting_move_by_keys_and_reset_brings_them_back(saved):
    page = saved()
    press(page, "ArrowRight", "ArrowRight", "ArrowLeft")
    assert step(page) == 1
    press(page, "End")
    assert step(page) == 10
    wait_query(page, step="10")  # the link follows each rest of the hand, in whatever order things were changed
    press(page, "p", "ArrowRight", "ArrowUp", "Shift+ArrowRight")
    expect(page.locator(".pg-x")).to_have_attribute("aria-valuetext", "right .31, up .51, true class B")
    assert step(page) == 10
    page.locator("[name=eps]").focus()
    press(page, "ArrowRight")
    expect(page.locator("[name=eps]")).to_have_attribute("aria-valuetext", "eps = .19")
    page.locator(".pg-sentence").click()
    press(page, "n", "z")
    wait_settings(page, "x=0.310,0.510&eps=0.19&start=9&step=10&zoom=1")
    press(page, "r")
    wait_settings(page, "")
    press(page, "?")
    expect(page.locator(".pg-keys")).to_be_visible()


def test_a_link_says_everything_and_a_wrong_one_says_what_is_wrong(saved):
    query = "points=rings&model=dynamic&seed=2&traineps=0.1&x=0.900,0.500"
    query += "&class=A&norm=l2&alpha=eps/2&steps=7&start=x&step=3"
    page = saved(query)
    assert step(page) == 3
    wait_settings(page, query)
    expect(page.locator(".pg-score")).to_contain_text("attack gradients per point and epoch")
    page = saved("eps=7&class=C&points=moons&stop=x")
    problem = page.locator(".pg-problem")
    expect(problem).to_contain_text('The link asks for eps = "7"; it must be between 0.02 and 0.3.')
    expect(problem).to_contain_text("There is no class C among the points")
    page = saved("stop=50&steps=7&step=15")
    problem = page.locator(".pg-problem")
    expect(problem).to_contain_text("There is no stop 50 of the tour; the last one is 9.")
    expect(problem).to_contain_text("There is no step 15; the last one is 7.")


def test_box_and_paper_differ_only_at_the_edge(saved):
    page = saved("x=0.5,0.5")
    box, paper = re.findall(r"FOSC ([\d.]+).*paper form ([\d.]+)", page.locator(".pg-equation").inner_text())[0]
    assert box == paper
    page = saved("x=0.95,0.9&class=A")
    box, paper = re.findall(r"FOSC ([\d.]+).*paper form ([\d.]+)", page.locator(".pg-equation").inner_text())[0]
    assert float(box) < float(paper)
    expect(page.locator(".pg-ball-paper")).to_be_visible()


def test_it_is_trained_again_in_about_a_second(saved):
    page = saved(reduced_motion="no-preference")
    before = page.locator(".pg-equation").inner_text()
    page.get_by_role("button", name="Dynamic").click()
    expect(page.locator(".pg-score")).to_contain_text("Dynamic: right on")
    expect(page.locator(".pg-equation")).not_to_have_text(before)
    calm = saved(reduced_motion="reduce")
    press(calm, "t")
    wait_query(calm, seed="2")


def test_teacher_mode_hides_what_only_experts_need_and_enlarges_the_type(saved):
    page = saved()
    small = page.evaluate("parseFloat(getComputedStyle(document.querySelector('.pg')).fontSize)")
    expect(page.get_by_role("button", name="disc (L2)")).to_be_visible()
    page.get_by_role("button", name="Teacher mode").click()
    expect(page.get_by_role("button", name="disc (L2)")).to_be_hidden()
    assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('.pg')).fontSize)") >= 1.2 * small
    wait_query(page, teach="1")


def test_nothing_is_cut_off_at_any_size(saved):
    page = saved("teach=1")
    cut = "el => [...el.querySelectorAll('.pg-box')].filter(b => b.scrollWidth > b.clientWidth + 1).length"
    over = """() => [...document.querySelectorAll(".pg-panels .pg-box")].some(box =>
      box.querySelector("svg").getBoundingClientRect().bottom > box.getBoundingClientRect().bottom + 1)"""
    for width, height in ((1920, 1080), (1280, 800), (1024, 768), (420, 800)):
        page.set_viewport_size({"width": width, "height": height})
        page.wait_for_function("width => innerWidth === width", arg=width)
        drawn(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator(".pg").evaluate(cut) == 0
        assert not page.evaluate(over)


def test_light_and_dark_follow_the_theme_while_it_is_open(learn):
    page = learn("step=3", color_scheme="light")
    light = """el => { const pen = document.createElement("canvas").getContext("2d");
      pen.fillStyle = getComputedStyle(el.querySelector(".pg-word-x")).fill;
      return parseInt(pen.fillStyle.slice(3, 5), 16) > 128; }"""
    assert not page.locator(".pg").evaluate(light)
    page.emulate_media(color_scheme="dark")
    expect(page.locator(".pg.pg-dark")).to_have_count(1)
    assert page.locator(".pg").evaluate(light)
    assert step(page) == 3


def test_the_page_is_saved_as_one_file_with_its_settings(learn, chromium, tmp_path):
    page = learn("x=0.3,0.6&class=B&step=4")
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save this page as one file").click()
    path: Path = tmp_path / "saved.html"
    waiting.value.save_as(path)
    asked: list[str] = []
    troubles: list[str] = []
    with chromium.new_context(offline=True) as alone:
        copy = alone.new_page()
        watch(copy, troubles)
        copy.on("request", lambda request: asked.append(request.url))
        copy.goto(f"file://{path}")
        expect(copy.locator(".pg-at")).to_have_text("4")
        expect(copy.locator(".pg-x")).to_have_attribute("aria-valuetext", re.compile(r"right \.30, up \.60"))
        with copy.expect_popup() as sheet:
            copy.get_by_role("button", name="Worksheet to print").click()
        expect(sheet.value.get_by_role("heading", name="Answers")).to_be_visible()
    assert asked and all(url.startswith(("file:", "blob:", "data:")) for url in asked)
    assert not troubles


def test_leaving_and_coming_back_keeps_the_settings_and_leaves_no_keys_behind(learn):
    page = learn()
    press(page, "ArrowRight", "ArrowRight")
    wait_settings(page, "step=2")
    page.get_by_role("link", name="Epochs").click()
    page.wait_for_url(re.compile("/epochs"))
    page.wait_for_selector(".dy[data-ready]")
    expect(page.locator(".pg")).to_have_count(0)
    press(page, "End", "]", "t")
    wait_query(page, "epochs", epoch="30")  # End was heard here, and the keys after it by nobody
    assert "seed=" not in page.url
    page.get_by_role("link", name="Learn").click()
    page.wait_for_selector(".pg[data-ready]")
    assert step(page) == 2
    press(page, "ArrowRight")
    assert step(page) == 3
