"""The trainer's fixed part, which a proposal may not change: batches, budget clock, watch curve, checkpoint, reports.

    python -m gpu_runner.harness RUN_DIR --report-fd N

RUN_DIR holds ``source/`` (the recipe, read-only), ``spec.json`` and ``out/`` (all that may be
written). The harness loads ``source/train.py``, hands it a ``Run`` (run.py) and tells what happens
as JSON lines on descriptor N (pipe.py). It runs in the same process as the proposed code, so
nothing that it says is believed: the number that counts comes from gpu_runner/scorer/score.py.

Importing this package imports nothing, so that the worker can use ``supply`` without torch.
"""
