"""What people look at: static pages and the reference of the API."""
