"""Owners as principals instead of names, and browsers' logins. Names that were only claimed stay readable, as that."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_sessions = sa.table(
    "sessions",
    sa.column("id", sa.String),
    sa.column("owner", sa.JSON),
    sa.column("owner_id", sa.String),
    sa.column("owner_name", sa.String),
    sa.column("owner_was", sa.String),
    sa.column("ended_by", sa.JSON(none_as_null=True)),
    sa.column("ended_by_was", sa.String),
)
_ports = sa.table("debug_ports", sa.column("port", sa.Integer), sa.column("owner_id", sa.String))


def upgrade() -> None:
    with op.batch_alter_table("sessions") as table:
        table.alter_column("owner", new_column_name="owner_was", existing_type=sa.String(200))
        table.alter_column("ended_by", new_column_name="ended_by_was", existing_type=sa.String(200))
    with op.batch_alter_table("sessions") as table:
        table.add_column(sa.Column("owner", sa.JSON))
        table.add_column(sa.Column("owner_id", sa.String(2000)))
        table.add_column(sa.Column("owner_name", sa.String(200)))
        table.add_column(sa.Column("ended_by", sa.JSON))
    connection = op.get_bind()
    for id_, owner, ended_by in connection.execute(
        sa.select(_sessions.c.id, _sessions.c.owner_was, _sessions.c.ended_by_was)
    ).all():
        values = {
            "owner": _principal(owner),
            "owner_id": _id(owner),
            "owner_name": owner,
            "ended_by": ended_by and _principal(ended_by),
        }
        connection.execute(sa.update(_sessions).where(_sessions.c.id == id_).values(values))
    with op.batch_alter_table("sessions") as table:
        for column, kind in (("owner", sa.JSON()), ("owner_id", sa.String(2000)), ("owner_name", sa.String(200))):
            table.alter_column(column, existing_type=kind, nullable=False)
        table.drop_column("owner_was")
        table.drop_column("ended_by_was")
    with op.batch_alter_table("debug_ports") as table:
        table.alter_column(
            "owner", new_column_name="owner_id", existing_type=sa.String(200), type_=sa.String(2000), nullable=False
        )
    for port, owner in connection.execute(sa.select(_ports.c.port, _ports.c.owner_id)).all():
        if owner:
            connection.execute(sa.update(_ports).where(_ports.c.port == port).values(owner_id=_id(owner)))
    op.create_table(
        "logins",
        sa.Column("id_hash", sa.String(64), nullable=False),
        sa.Column("principal", sa.JSON, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sealed", sa.LargeBinary),
        sa.PrimaryKeyConstraint("id_hash", name="pk_logins"),
    )
    op.create_index("ix_logins_expires_at", "logins", ["expires_at"])


def downgrade() -> None:
    op.drop_table("logins")
    with op.batch_alter_table("sessions") as table:
        table.add_column(sa.Column("owner_was", sa.String(200)))
        table.add_column(sa.Column("ended_by_was", sa.String(200)))
    connection = op.get_bind()
    found = connection.execute(sa.select(_sessions.c.id, _sessions.c.owner_name, _sessions.c.ended_by)).all()
    for id_, name, ended_by in found:
        values = {"owner_was": name, "ended_by_was": ended_by and ended_by["name"]}
        connection.execute(sa.update(_sessions).where(_sessions.c.id == id_).values(values))
    with op.batch_alter_table("sessions") as table:
        for column in ("owner", "owner_id", "owner_name", "ended_by"):
            table.drop_column(column)
    with op.batch_alter_table("sessions") as table:
        table.alter_column("owner_was", new_column_name="owner", existing_type=sa.String(200), nullable=False)
        table.alter_column("ended_by_was", new_column_name="ended_by", existing_type=sa.String(200))
    for port, owner_id in connection.execute(sa.select(_ports.c.port, _ports.c.owner_id)).all():
        owner = json.loads(owner_id)[2][:200] if owner_id else ""
        connection.execute(sa.update(_ports).where(_ports.c.port == port).values(owner_id=owner))
    with op.batch_alter_table("debug_ports") as table:
        table.alter_column(
            "owner_id", new_column_name="owner", existing_type=sa.String(2000), type_=sa.String(200), nullable=False
        )


def _principal(name: str) -> dict[str, object]:
    return {
        "kind": "claimed",
        "issuer": "",
        "subject": name,
        "name": name,
        "groups": [],
        "proof": "",
        "actor": None,
        "at_most": None,
    }


def _id(name: str) -> str:
    return json.dumps(["claimed", "", name], ensure_ascii=False, separators=(",", ":"))
