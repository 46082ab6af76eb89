"""``wsgi:app`` for any WSGI server; ``python wsgi.py`` serves with waitress. Both use config.toml."""

import sys

if __name__ == "__main__":
    from imagefactory.cli import main

    main(["serve", *sys.argv[1:]], prog_name="wsgi.py")
else:
    from imagefactory import create_app

    app = create_app()
