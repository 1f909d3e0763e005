"""Datasets: text to train on and text to be measured by, prepared once and pinned by a manifest.

    ROOT/<name>/manifest.json
                tokenizer.tiktoken | tokenizer.json   as it was given; none for bytes
                train/train-00000.bin ...   what runs learn from       mounted in the training sandbox
                train/watch-00000.bin ...   their own live curve       mounted in the training sandbox
                train/token_bytes.bin       bytes of text of each id   mounted in the training sandbox
                train/manifest.json         a copy, for the harness    mounted in the training sandbox
                val/val-00000.bin ...       read by the scorer only    folder 0700, mounted nowhere
                sealed/sealed-00000.bin ... read at promotion only     folder 0700, mounted nowhere

A shard is nothing but tokens, little-endian, at most 200 MB. A document ends with the tokenizer's
separator. Where the source has no held-out part of its own, a document's split follows from the
sha256 of its text, so equal documents never stand on both sides of a split.

    manifest.py    the manifest: its rows, its file and its hash
    tokens.py      shards as one long array, memory-mapped
    tokenizers/    text to tokens, and how many bytes of text a token stands for
    sources/       one module for each format that text or tokens come in
    dealing.py     which split a document goes to, and which go to none
    left_out.py    counts what of a source is in no split
    place.py       checks the name and folder of a new dataset
    prepare.py     a source, a tokenizer and a name to a dataset
    overlap.py     how much held-out text stands in the training text
    verify.py      whether a dataset still is what its manifest says
    inspect.py     shows a dataset to people
    summary.py     a dataset in short for the web side, with samples of its training text
    commands.py    `python -m gpu_runner data ...`

Only ``prepare`` needs more than numpy; harness and scorer import ``manifest`` and ``tokens``.
"""
