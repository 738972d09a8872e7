"""Import an export (or a SQLite file) into Postgres: ``python scripts/import_to_postgresql.py --help``."""

from in_venv import require_switchyard

if __name__ == "__main__":
    require_switchyard()
    from switchyard.cli import main
    from switchyard.transfer.archive_cli import import_command

    main(command=import_command, name="import_to_postgresql.py")
