"""`python -m raftkv` is the `raftkv` command."""

from raftkv.cli.main import main

if __name__ == "__main__":
    main()
