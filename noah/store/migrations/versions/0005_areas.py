"""The area of each session's target, on which rights are given; and with whom a session is shared."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    with op.batch_alter_table("sessions") as sessions:
        sessions.add_column(sa.Column("area", sa.String(700), nullable=False, server_default=""))
        sessions.add_column(sa.Column("shares", sa.JSON, nullable=False, server_default="{}"))
    connection = op.get_bind()
    table = sa.table(
        "sessions", sa.column("id", sa.String), sa.column("target", sa.String), sa.column("area", sa.String)
    )
    for id_, target in connection.execute(sa.select(table.c.id, table.c.target)).all():
        # pod/CLUSTER/NAMESPACE/POD/CONTAINER lies in its namespace; any other target is an area of its own.
        area = "/".join(target.split("/")[:3])
        connection.execute(sa.update(table).where(table.c.id == id_).values(area=area))
    with op.batch_alter_table("sessions") as sessions:
        sessions.alter_column("area", server_default=None)
        sessions.alter_column("shares", server_default=None)
    op.create_index("ix_sessions_area", "sessions", ["area"])


def downgrade() -> None:
    op.drop_index("ix_sessions_area", "sessions")
    with op.batch_alter_table("sessions") as sessions:
        sessions.drop_column("shares")
        sessions.drop_column("area")
