"""The tables' history, for Alembic. The service applies it by itself when it starts."""
