"""Edits of options files on hosts; and whether a session may restart its app."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_OPEN = sa.text("state IN ('planned', 'applied', 'undoing', 'rolling-back')")


def upgrade() -> None:
    with op.batch_alter_table("sessions") as sessions:
        sessions.add_column(sa.Column("may_restart", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_table(
        "host_edits",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("target", sa.String(1000), nullable=False),
        sa.Column("session", sa.String(40), nullable=False),
        sa.Column("file", sa.String(1000), nullable=False),
        sa.Column("before", sa.LargeBinary, nullable=False),
        sa.Column("after", sa.LargeBinary, nullable=False),
        sa.Column("mode", sa.String(40), nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("why", sa.String(2000)),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_host_edits"),
    )
    op.create_index(
        "ux_host_edits_open_target", "host_edits", ["target"], unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN
    )
    op.create_index("ix_host_edits_session", "host_edits", ["session"])


def downgrade() -> None:
    op.drop_table("host_edits")
    with op.batch_alter_table("sessions") as sessions:
        sessions.drop_column("may_restart")
