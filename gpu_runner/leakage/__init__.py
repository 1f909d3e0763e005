"""Detects held-out text in a recipe's source. It runs on the worker, where that text lies, and never in a sandbox.

A recipe that contains the text it will be scored on needs to learn nothing: 60 kB of the validation text in a
docstring gave a run 1.70 bits a byte where it had 2.11 without. No challenge of the scorer can see that, since the
same prefix has the same answer.

    letters.py     letters and digits in lower case, all else dropped; hashes of 32 of them
    forms.py       a file as a model could read it: as it stands, its strings, comments, names, numbers, turned around
    unpack.py      decodes what was encoded or packed, within bounds
    held_out.py    the letters of a dataset's splits, streamed
    compare.py     which of a source's hashes are held out, and new
    __main__.py    the comparison as a process of its own, which worker/leakage.py starts before a run trains

Nothing here imports or runs what it reads. What is found is told by numbers and by places of the source: held-out
text reaches no message, page or prompt.
"""
