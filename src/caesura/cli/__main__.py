"""`python -m caesura.cli`."""

from caesura.cli.main import main

if __name__ == "__main__":
    main()
