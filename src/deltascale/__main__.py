"""`python -m deltascale`, the same as `deltascale`."""

from deltascale.cli import main

if __name__ == "__main__":
    main()
