"""Alembic's way in. noah/store/revisions.py hands over the connection; `alembic` itself is not run by hand."""

from alembic import context
from noah.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes a table by copying it
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
