"""``python -m earwitness``: the command line, where ``earwitness`` is not on the path."""

from earwitness.cli import main

main()
