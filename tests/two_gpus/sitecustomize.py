"""On the path of a process, a machine with two GPUs: the driver shows two, and the CPU computes what runs on them.

Only the driver is made up. Workers, jobs, locks and files are those of the product.
"""

from __future__ import annotations

import sys

from dynat_core import machine

machine.gpu_count = lambda: 2

if "job" in sys.orig_argv:  # what computes; supervisors stay free of torch
    import torch

    from dynat_core import devices

    devices.choose = lambda name="auto": torch.device("cpu")
