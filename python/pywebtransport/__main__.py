"""``python -m pywebtransport`` is the command ``pywebtransport``."""

from pywebtransport.cli import main

if __name__ == "__main__":
    main(prog_name="pywebtransport")
