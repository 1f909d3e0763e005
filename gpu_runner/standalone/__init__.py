"""The parts of ``python -m gpu_runner train``: training by hand, with no dashboard, database or Redis.

    spec.py     what a person wrote: SPEC.toml, parsed strictly, every mistake one sentence
    plan.py     what follows from it: the recipe's folder, the dataset, the knobs, the run folder's name
    folder.py   the run folder, whole or not there at all; new, interrupted, failed or finished
    process.py  the command line of one or several training processes, and how they are told to stop
    record.py   what a run leaves: points.jsonl, log.txt, ended.json
    screen.py   what a person sees meanwhile, and the table at the end

``gpu_runner/standalone/train.py`` puts them together and reads downward.
"""
