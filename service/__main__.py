"""`python -m service` is the `cage` command."""

from service.cli import main

main()
