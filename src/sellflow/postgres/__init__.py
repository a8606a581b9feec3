"""Postgres: the embedded server, connections per login, transactions, migrations, backups and leases."""
