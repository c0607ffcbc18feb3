"""The environment of each session and each release.

A gateway that knows revision 0008 writes rows without it, which are then shown in no environment.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
is_additive = True


def upgrade() -> None:
    for name in ("sessions", "releases"):
        with op.batch_alter_table(name) as table:
            table.add_column(sa.Column("environment", sa.String(300), nullable=False, server_default=""))
    connection = op.get_bind()
    sessions = sa.table(
        "sessions", sa.column("id", sa.String), sa.column("target", sa.String), sa.column("environment", sa.String)
    )
    for id_, target in connection.execute(sa.select(sessions.c.id, sessions.c.target)).all():
        # What the settings call them unless they say otherwise; before, there was no other name.
        kind, *parts = target.split("/")
        environment = parts[1] if kind == "pod" else {"host": "hosts"}.get(kind, "local")
        connection.execute(sa.update(sessions).where(sessions.c.id == id_).values(environment=environment))
    op.execute("UPDATE releases SET environment = namespace")


def downgrade() -> None:
    for name in ("sessions", "releases"):
        with op.batch_alter_table(name) as table:
            table.drop_column("environment")
