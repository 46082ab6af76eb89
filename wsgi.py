"""``wsgi:app`` for any WSGI server; ``python wsgi.py`` serves with waitress. Both use config.toml."""

from imagefactory import create_app

app = create_app()

if __name__ == "__main__":
    from imagefactory.cli import main

    main(["serve"], prog_name="wsgi.py")
