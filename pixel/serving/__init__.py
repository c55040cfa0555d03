"""The gunicorn side: how connections are read, answered and written, and the engine process."""
