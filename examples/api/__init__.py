"""One runnable example per module of the API."""
