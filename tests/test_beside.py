"""Writing beside the work: order, at most one thing unwritten, and nothing that goes wrong is lost."""

from __future__ import annotations

import threading

import pytest

from dynat_core.work.beside import Beside


def test_everything_is_done_in_the_order_it_was_asked_for():
    done: list[int] = []
    with Beside() as beside:
        for number in range(200):
            beside.do(lambda number=number: done.append(number))
    assert done == list(range(200))


def test_the_caller_goes_on_while_it_is_done_and_a_second_one_waits_for_the_first():
    may_go, second = threading.Event(), threading.Event()
    with Beside() as beside:
        beside.do(lambda: may_go.wait(30) or None)
        handing = threading.Thread(target=lambda: beside.do(second.set))
        handing.start()
        handing.join(0.05)
        assert handing.is_alive() and not second.is_set()  # the first is still being written
        may_go.set()
        handing.join(30)
    assert second.is_set()


@pytest.mark.parametrize("how", ["the next one", "settle", "the end"])
def test_what_goes_wrong_is_told_at_the_next_occasion_and_only_once(how):
    def full() -> None:
        raise OSError(28, "No space left on device")

    after: list[int] = []
    with pytest.raises(OSError, match="No space"), Beside() as beside:
        beside.do(full)
        if how == "the next one":
            beside.do(lambda: after.append(1))
        elif how == "settle":
            beside.settle()
    assert not after
    beside.settle()


def test_an_error_of_the_work_itself_is_not_hidden_by_one_of_the_writing():
    def full() -> None:
        raise OSError("full")

    with pytest.raises(KeyError, match="mine"), Beside() as beside:
        beside.do(full)
        raise KeyError("mine")


def test_what_was_handed_over_is_written_also_when_the_work_breaks_off():
    done: list[int] = []
    with pytest.raises(KeyError), Beside() as beside:
        beside.do(lambda: done.append(1))
        raise KeyError
    assert done == [1]
