"""`python -m deltascale`, the same as `deltascale`."""

from deltascale.cli import main

main()
