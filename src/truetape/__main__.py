"""`python -m truetape` is the command line."""

from truetape.app.cli.main import main

if __name__ == "__main__":
    main()
