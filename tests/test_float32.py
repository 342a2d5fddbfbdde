"""Where computing happens: what float32 means there."""

from __future__ import annotations

import pytest
import torch

from dynat_core.devices import choose, shortened


def allowed() -> tuple[bool, bool]:
    """Whether a GPU may shorten float32, in convolutions and in matrix products."""
    return bool(torch.backends.cudnn.allow_tf32), bool(torch.backends.cuda.matmul.allow_tf32)


def test_float32_is_float32_on_every_device_that_is_chosen():
    torch.backends.cudnn.allow_tf32 = True  # as torch starts
    choose("cpu")
    assert allowed() == (False, False)


@pytest.mark.parametrize("wanted", [True, False])
def test_it_is_shortened_only_where_that_is_allowed_and_only_as_long(wanted):
    choose("cpu")
    with pytest.raises(ZeroDivisionError), shortened(wanted):
        assert allowed() == (wanted, wanted)
        raise ZeroDivisionError
    assert allowed() == (False, False)
