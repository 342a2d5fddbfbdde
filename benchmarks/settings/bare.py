"""Settings of a training of which nothing is recorded that nobody looks at: it would cost gradients and change no
weight."""

from __future__ import annotations

from typing import Any

BARE: dict[str, Any] = {
    "recording.test_images": 1, "recording.train_rows": 1, "recording.final_gradients": 0, "recording.probes": 0,
    "recording.paths": False,
}  # fmt: skip
