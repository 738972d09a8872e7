"""Alembic's folder: the one owner of DDL. Run by ``tradedb.migrate``; ``alembic check`` and ``alembic revision`` work too."""
