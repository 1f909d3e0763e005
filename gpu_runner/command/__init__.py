"""Foreign trainers (``kind = "command"``): what they are told, what they find, and how their numbers are read.

Nothing here runs beside a trainer: all of it is the supervisor's, and takes what a trainer writes as hostile text.

    words.py         the command line and its environment
    overrides.py     the values of knobs, as arguments, variables, a config file or constants at the head of a file
    layout.py        the dataset as nanoGPT or llm.c expect to find it
    safely.py        opens what a trainer wrote, and follows no link
    readers.py       JSON lines, regular expressions, blocks of "key: value"
    tensorboard.py   TensorBoard's event files
    reading.py       from records to live points and the last word on the metric
    environments.py  the interpreters that an operator has declared
"""
