"""Taking pictures in: received, checked, named, stripped, and made visible by one rename."""
