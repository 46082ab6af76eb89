"""The catalog: a database with a row for each picture, and one for each piece of background work."""
