"""Export a bot's SQLite file: ``python scripts/export_sqlite_data.py --help``."""

from in_venv import require_switchyard

if __name__ == "__main__":
    require_switchyard()
    from switchyard.cli import main
    from switchyard.transfer.archive_cli import export_command

    main(command=export_command, name="export_sqlite_data.py")
