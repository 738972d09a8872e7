"""Alembic's folder, the one owner of DDL. ``tradedb.migrate`` runs it; ``alembic check`` and ``revision`` work too."""
