"""What tests share: servers, browsers, drawings, caches that are filled, kills under load."""
