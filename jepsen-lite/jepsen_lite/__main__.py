"""`python -m jepsen_lite`."""

from jepsen_lite.cli import main

main()
