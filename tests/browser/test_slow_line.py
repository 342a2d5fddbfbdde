"""A browser that hears late, or not all, of what the server says: what is done meanwhile is neither lost nor undone."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

pytest.importorskip("playwright")
from playwright.sync_api import Page, WebSocketRoute, expect  # noqa: E402
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg  # noqa: E402

from dynat_core.store.runs import RunStore  # noqa: E402
from tests.browser.pages import PATIENCE, press, press_at_once, settled, wait_cursor, wait_query  # noqa: E402
from tests.stores import demos  # noqa: E402

pytestmark = pytest.mark.browser
RUN = "demo-digits-standard"


class Line:
    """The line between a page and its server."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._held: list[bytes] | None = None
        self._losing = False
        page.route_web_socket("**/_stcore/stream", self._connect)

    def _connect(self, browser: WebSocketRoute) -> None:
        self._browser = browser
        browser.connect_to_server().on_message(self._heard)

    def _heard(self, message: bytes) -> None:
        said = ForwardMsg.FromString(message)
        if self._losing and said.WhichOneof("type") == "delta" and said.delta.fragment_id:
            return
        if said.WhichOneof("type") == "script_finished" and said.script_finished == said.FINISHED_SUCCESSFULLY:
            self._losing = False
        if self._held is None:
            self._browser.send(message)
        else:
            self._held.append(message)

    def hold(self) -> None:
        """Keep back what the server says from now on."""
        self._held = []

    def wait(self, kind: str, times: int = 1) -> None:
        """Wait until so many messages of a kind were kept back."""
        for _ in range(PATIENCE // 50):
            kinds = [ForwardMsg.FromString(message).WhichOneof("type") for message in self._held or ()]
            if kinds.count(kind) >= times:
                return
            self._page.wait_for_timeout(50)
        raise AssertionError(f"no {kind} was said")

    def release(self) -> None:
        """Let the page hear what was kept back."""
        held, self._held = self._held or [], None
        for message in held:
            self._browser.send(message)

    def lose(self) -> None:
        """Lose what the next whole run draws in fragments: so does Streamlit when another run follows at once."""
        self._losing = True


@pytest.fixture(scope="module")
def images() -> list[int]:
    """Four images, in order, that follow each other with none between them."""
    there = [int(i) for i in RunStore(demos()).open(RUN).samples(6, split="test")["index"]]
    there.sort()
    return there[3:7]


@pytest.fixture
def show(new_page, serve, images) -> Callable[[], tuple[Page, Line]]:
    """show() -> the trajectory screen at the first of the images, and its line."""
    address = serve("app.py", DYNAT_STORE=str(demos()), DYNAT_WORKER_IDLE="2")

    def go() -> tuple[Page, Line]:
        page = new_page()
        page.add_init_script("window.dynatAbsence = 120000")  # on a busy machine a picture can be away for long
        line = Line(page)
        listed = ",".join(map(str, images))
        page.goto(f"{address}/trajectory?run={RUN}&images={listed}&image={images[0]}&step=2")
        wait_cursor(page, 2)
        settled(page)
        page.locator(".dynat-question").click()
        return page, line

    return go


def test_what_is_pressed_before_the_last_change_is_heard_of_undoes_nothing(show, images):
    page, line = show()
    line.hold()
    press(page, "ArrowDown")
    line.wait("script_finished", 2)  # the fragment's, and that of the whole run which shows the next image
    press(page, "ArrowRight", "ArrowRight")  # says the old address and the old number in the field with it
    line.wait("page_info_changed", 2)
    line.release()
    wait_query(page, image=str(images[1]), step="4")
    wait_cursor(page, 4)
    number = page.get_by_role("spinbutton", name="image number")
    expect(number).to_have_value(str(images[1]))
    press_at_once(page, "ArrowDown", "ArrowDown")
    wait_query(page, image=str(images[3]), step="4")
    expect(number).to_have_value(str(images[3]))
    settled(page)
    page.wait_for_timeout(1500)  # a run under way could take the sign that it was Back
    page.go_back()
    wait_query(page, image=str(images[1]), step="4")
    expect(number).to_have_value(str(images[1]))


def test_a_picture_that_is_taken_away_and_put_back_is_the_same_and_kept_what_was_pressed(show, images):
    page, line = show()
    picture = page.locator(".st-key-trace .dy")
    press(page, "ArrowRight")
    wait_query(page, step="3")
    page.evaluate("() => { document.querySelector('.st-key-trace .dy').sameAsBefore = true; }")
    line.lose()
    press(page, "ArrowDown")
    expect(picture).to_have_count(0)
    press(page, "ArrowRight", "ArrowUp")  # nobody is there to say it to
    page.wait_for_timeout(200)
    press(page, "ArrowUp", "?", "p")  # and no dialog to show
    page.get_by_role("spinbutton", name="image number").fill(str(images[2]))
    page.keyboard.press("Enter")
    wait_query(page, image=str(images[0]), step="4")
    assert page.evaluate("() => document.querySelector('.st-key-trace .dy').sameAsBefore")
    wait_cursor(page, 4)


def test_the_focus_in_a_picture_that_is_put_back_is_where_it_was(show, images):
    page, line = show()
    forward = page.locator(".st-key-trace .dy-next")
    forward.focus()
    line.lose()
    press(page, "ArrowDown")
    expect(forward).to_have_count(0)
    page.evaluate(
        "() => document.querySelector('[data-testid=stNumberInputStepUp]').click()"
    )  # the focus stays nowhere
    expect(forward).to_be_focused()


def test_a_page_that_was_left_and_is_shown_again_writes_nothing_into_the_history(show):
    page, _ = show()
    press(page, "ArrowRight")
    wait_query(page, step="3")
    page.get_by_role("link", name="Overview", exact=True).click()
    page.wait_for_selector(".st-key-overview-picture .dy[data-ready]")
    page.get_by_role("link", name="Learn", exact=True).click()
    page.wait_for_selector(".pg[data-ready]")
    page.go_back()
    page.wait_for_selector(".st-key-overview-picture .dy[data-ready]")
    settled(page)
    page.wait_for_timeout(700)  # as long as anything that is said of itself would take
    page.go_forward()
    wait_query(page, "learn")
    page.wait_for_selector(".pg[data-ready]")


def test_a_picture_that_is_gone_for_good_takes_no_keys_from_the_one_that_is_left(show):
    page, _ = show()
    page.get_by_text("Threshold slider").click()
    page.wait_for_selector(".st-key-threshold-picture .dy[data-ready]")
    page.get_by_text("Threshold slider").click()
    expect(page.locator(".st-key-threshold-picture")).to_have_count(0)
    page.locator(".dynat-question").click()
    press(page, "ArrowRight")
    wait_cursor(page, 3)
    press(page, "?")
    expect(page.locator(".st-key-trace .dy-keys")).to_be_visible()


def test_a_filter_s_label_of_before_another_filter_is_no_class(show):
    page, _ = show()
    page.get_by_role("button", name="show all").click()
    classes = page.get_by_role("combobox", name="true class")
    classes.click()
    page.get_by_role("option", name="4 (").click()
    wait_query(page, only="true=4")
    before = classes.input_value()
    page.get_by_role("combobox", name="Which images?").click()
    page.get_by_role("option", name="fooled (").click()
    wait_query(page, only="fooled;true=4")
    expect(classes).not_to_have_value(before)
    expect(classes).to_have_value(re.compile(r"4 \(\d+\)"))
    page.locator(".dynat-question").click()
    press(page, "ArrowRight")
    wait_query(page, step="3", only="fooled;true=4")
