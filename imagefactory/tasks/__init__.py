"""Background work: a queue in the catalog's database, and the workers that empty it."""
