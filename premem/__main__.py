"""`python -m premem`: the command line."""

from premem.cli.main import main

if __name__ == "__main__":
    main()
