"""Resolves the names in a patch against the installed packages. Trusted; runs nothing proposed.

The gate "code" reads a patch and starts ``python -m gpu_runner.names`` beside it: one process that imports torch, numpy
and triton, walks dotted names through them without calling anything, and says of each what it really is. So a module
is judged by what it is, whatever path led to it; and the process that holds the database and the keys imports none
of these packages.

    {"names": ["torch.nn.functional.relu", ...]}  a line on standard input
    {"leads": {name: [[kind, home, is_listed], ...]}, "absent": {package: why}}  a line on standard output
"""
