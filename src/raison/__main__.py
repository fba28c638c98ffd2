"""`python -m raison` is the command line."""

from raison.cli import main

main()
