"""The Alembic history of the tables: one revision for each released change, never changed afterwards."""
