"""`python -m lmms_awares` is the `awares` command."""

from lmms_awares.cli import main

main()
