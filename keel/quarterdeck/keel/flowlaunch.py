"""Brings the engine up on a database: DBOS in this process, on this event loop, with its work kept apart."""

from __future__ import annotations

import asyncio
import logging
import secrets
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from quarterdeck.keel.errors import Refusal
from quarterdeck.keel.flowdb import APP, Clock, Database
from quarterdeck.keel.flowdesk import Desk
from quarterdeck.keel.flowengine import Engine
from quarterdeck.keel.flowheart import Heart
from quarterdeck.keel.settings import FlowsSettings


async def launch(
    settings: FlowsSettings, home: Path, *, executor: str, beat_s: float, dead_s: float, adopt: bool
) -> Engine:
    database = await asyncio.to_thread(Database, settings.database.get_secret_value(), home)
    try:
        await asyncio.to_thread(database.create)
        name = f"{executor or 'engine'}-{secrets.token_hex(6)}"
        return await _launch(database, settings, name, beat_s, dead_s, adopt)
    except (SQLAlchemyError, OSError) as error:
        database.close()
        raise database.unusable(error) from None


async def open_desk(settings: FlowsSettings, home: Path) -> Desk:
    database = await asyncio.to_thread(Database, settings.database.get_secret_value(), home)
    try:
        if not await asyncio.to_thread(database.used):
            raise Refusal(f"No flow was ever run on {database.place}.")
        await asyncio.to_thread(database.create)
        return Desk(database)
    except Refusal:
        database.close()
        raise
    except (SQLAlchemyError, OSError) as error:
        database.close()
        raise database.unusable(error) from None


async def _launch(
    database: Database, settings: FlowsSettings, executor: str, beat_s: float, dead_s: float, adopt: bool
) -> Engine:
    await asyncio.to_thread(__import__, "dbos")
    from dbos import DBOS, _sys_db
    from dbos._dbos import _dbos_global_instance
    from dbos._serialization import DBOSPortableJSON

    if _dbos_global_instance is not None:
        raise Refusal("Flows already run in this process; there is one engine a process.")
    logging.getLogger("dbos").addHandler(logging.NullHandler())  # or DBOS adds one that writes by itself
    _sys_db.time = Clock()  # type: ignore[assignment, attr-defined]
    try:
        dbos = DBOS(
            config={
                "name": APP,
                "system_database_url": database.url,
                "system_database_engine": database.engine,
                "executor_id": executor,
                "application_version": "1",  # a flow goes on in newer code too; its steps' order is what must hold
                "serializer": DBOSPortableJSON,
                "log_level": "CRITICAL",  # what matters about a flow is logged here
                "use_listen_notify": False,
                "scheduler_polling_interval_sec": 3600.0,
            }
        )
        DBOS.launch()  # on this loop, which DBOS then takes for its own
        dbos._sys_db._now_ms_sql = database.now  # type: ignore[method-assign]  # DBOS's own may be in whole seconds
        engine = Engine(database, settings, executor, dbos)
        await engine.open(Heart(engine, beat_s, dead_s, adopt))
        return engine
    except BaseException:
        DBOS.destroy(destroy_registry=True)
        raise
