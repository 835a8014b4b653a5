"""``python -m alsiseg`` is the command `alsiseg`."""

from alsiseg.cli import main

main()
