"""The one exception that a person is meant to read."""


class EarwitnessError(Exception):
    """Something the user can fix. The message is one line: what, where, and how to fix it.

    Stages and the command line print it as ``error: …`` and exit with 1; everything else is a
    bug and keeps its traceback.
    """
