"""A training repository of somebody else becomes a recipe: ``python -m gpu_runner recipe new|check``.

Reading never runs or imports what it reads, and needs no torch: Python is parsed, everything else is text, all of it
hostile and capped. ``check`` trains a few steps in the sandbox, with the worker's own code.

    commands.py   the command line
    draft.py      reads a repository whole and puts a first recipe.toml together
    written.py    writes it down, with what is not sure marked beside its line
    told.py       what a run tells its trainer: seed, steps, folders; how it is started
    metric.py     how its number is printed
    ways.py       by which way its numbers are set: the best of the ways in arguments, fields, constants, files
    arguments.py  argparse, click, and functions behind fire or jsonargparse
    fields.py     dataclasses behind HfArgumentParser, tyro, simple-parsing, draccus or OmegaConf
    constants.py  constants at the head of a script, and nanoGPT's configurator
    files.py      JSON and YAML files of defaults
    entry.py      which file is started
    values.py     values, their types, and guesses of bounds
    syntax.py     small questions to parsed Python
    tree.py       the files of the repository
    check.py      five steps in the sandbox
    walls.py      a run that nobody leased: what the worker's code is handed
    opened.py     which files of a folder a run opened
"""
