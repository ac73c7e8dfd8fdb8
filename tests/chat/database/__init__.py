"""Tests of the database: on SQLite, and by `./dev postgres` on PostgreSQL."""
