"""``python -m imagefactory`` is the command ``imagefactory``."""

from .cli import main

main(prog_name="imagefactory")
