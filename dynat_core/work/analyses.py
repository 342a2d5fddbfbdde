"""What a screen may ask for on demand, by name."""

from __future__ import annotations

import numpy as np

from dynat_core.store.evaluations import open_evaluation
from dynat_core.work.analysis import Analysis, Answer, Cancelled, Request, Said
from dynat_core.work.helper_memory import data_of, free_device, run_of
from dynat_core.work.image_paths import loss_slice, trajectory
from dynat_core.work.landscapes import curvature, weight_line
from dynat_core.work.launch_probe import probe
from dynat_core.work.measurements import work_on


def indices(request: Request, cancelled: Cancelled, said: Said) -> Answer:
    """The test images a run may be asked about. request: store, run. Returns index and label (n,)."""
    test = data_of(run_of(request).config.data).test
    return {"n": len(test)}, {
        "index": test.index.numpy().astype(np.int32),
        "label": test.labels.numpy().astype(np.int32),
    }


def measurement(request: Request, cancelled: Cancelled, said: Said) -> Answer:
    """Work on an evaluation's job here and now; what it finds is written into its folder.

    request: store, run, evaluation (its name). Returns its state afterwards. Raises JobError if somebody else works on
    it already, RunError if there is none.
    """
    evaluation = open_evaluation(run_of(request).folder, request["evaluation"])
    with evaluation.job.claim():
        return {"state": work_on(evaluation, str(free_device(request["store"])), cancelled)}, {}


ANALYSES: dict[str, Analysis] = {
    "trajectory": trajectory,
    "loss_slice": loss_slice,
    "indices": indices,
    "probe": probe,
    "curvature": curvature,
    "weight_line": weight_line,
    "measurement": measurement,
}
