"""``python -m dchw``: the command line where no script is on the path."""

from dchw.cli import main

if __name__ == "__main__":
    main()
