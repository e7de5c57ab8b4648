"""`python -m service` is the `cage` command."""

from service.cli.main import main

main()
