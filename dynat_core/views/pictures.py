"""Images of an attack, one frame per step: what went in, what it is now, what changed, and where the slope still is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dynat_core.recorded.trajectories import Trajectory
from dynat_core.views.base import Note, Picture, View, held, padded
from dynat_core.views.ramps import to_bytes
from dynat_core.views.words import number, percent


def clean(path: Trajectory, n: int, *, span: int, block: str) -> View:
    """The clean image, the same at every step."""
    still = frames(path, np.repeat(path.x[None], n, axis=0))
    note = Note([f"label {class_name(path, path.label)}"] * n)
    return _view("clean", "Clean", still, "grey", span, block, [note])


def now(path: Trajectory, n: int, *, span: int, block: str) -> View:
    """The attacked image at the cursor's step, and what the model says about it."""
    said = [
        f"says {class_name(path, p)}: {percent(q[p])}" for p, q in zip(path.predicted, path.probabilities, strict=True)
    ]
    return _view("now", "Now", padded(frames(path, path.z), n), "grey", span, block, [Note(held(said, n))])


def perturbation(path: Trajectory, n: int, *, span: int, block: str, times: float | None = None) -> View:
    """The signed change of each pixel, averaged over colours; in eps, or with `times` in pixels and enlarged."""
    delta = path.delta.mean(axis=1)
    name, eps = "change", float(path.settings["eps"])
    if times is not None:
        limit, key, title = 1 / times, (number(-1 / times), "0", f"+{number(1 / times)}"), f"Difference × {times:g}"
    elif path.settings["norm"] == "linf" and eps > 0:
        limit, key, title = eps, ("−eps", "0", "+eps"), "Perturbation"
    else:
        limit = float(np.abs(delta).max()) or 1.0
        key, title = (number(-limit), "0", f"+{number(limit)}"), "Perturbation"
    pixels = to_bytes(delta, -limit, limit)
    if path.settings["norm"] == "linf":
        sign, length = "≤", np.abs(path.delta).max(axis=(1, 2, 3))
    else:
        sign, length = "length", np.linalg.norm(path.delta.reshape(len(path.z), -1), axis=1)
    size = [f"{sign} {number(v / eps)} eps" if eps > 0 else f"{sign} {number(v)}" for v in length]
    return _view(name, title, padded(pixels, n), "signed", span, block, [Note(held(size, n))], key)


def slope(path: Trajectory, n: int, form: str, *, span: int, block: str) -> View:
    """FOSC per pixel; each map adds up to the number on the axis. An L2 ball has no such map, and the view says so."""
    title = "FOSC per pixel"
    when = {"form": form}
    if path.settings["norm"] != "linf":
        text = "The FOSC of an L2 ball is one number for the whole image; it does not split into pixels."
        return View(f"map-{form}", title, span, 120, block, "map", when, text=text)
    maps = path.fosc_map() if form == "box" else paper_map(path)
    total = path.fosc if form == "box" else path.fosc_paper
    top = float(maps.max()) if np.isfinite(maps).all() and maps.max() > 0 else 1.0
    note = Note(held([f"sum {number(float(t))}" for t in total], n))
    view = _view(
        f"map-{form}", title, padded(to_bytes(maps, 0, top), n), "amount", span, block, [note], ("0", "", number(top))
    )
    return View(**{**vars(view), "slot": "map", "when": when})


def paper_map(path: Trajectory) -> np.ndarray:
    """(K+1,H,W) terms eps |g_i| - delta_i g_i of the paper's closed form, summed over channels; none is negative."""
    return (path.settings["eps"] * np.abs(path.grad) - path.delta * path.grad).sum(axis=1)


def _view(
    name: str,
    title: str,
    frames: np.ndarray,
    colors: str,
    span: int,
    block: str,
    notes: Sequence[Note],
    key: tuple[str, str, str] | None = None,
) -> View:
    size = (int(frames.shape[1]), int(frames.shape[2]))
    picture = Picture(name, size, colors, key)
    return View(name, title, span, block=block, picture=picture, notes=notes, arrays={name: frames})


def frames(path: Trajectory, images: np.ndarray) -> np.ndarray:
    """Images (n,C,H,W) as bytes: (n,H,W,3), or (n,H,W) with fewer than three channels; of more the first three."""
    pixels = to_bytes(images, path.settings.get("low", 0.0), path.settings.get("high", 1.0))
    return pixels[:, 0] if pixels.shape[1] < 3 else np.moveaxis(pixels[:, :3], 1, -1)


def class_name(path: Trajectory, label: int) -> str:
    """The name of a class; its number where no names are known."""
    classes = path.settings.get("classes") or []
    return str(classes[label]) if label < len(classes) else str(label)
