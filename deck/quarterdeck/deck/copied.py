"""What the worker processes beside a coordinator are copies of: imported once, by the process that they come from."""

# ruff: noqa: F401, E402
import gc

gc.disable()  # what is imported stays; to look through it for garbage again and again takes a fifth of the time

import fastmcp.client
import fastmcp.server.middleware.dereference
import jsonschema
import uvicorn
import uvicorn.protocols.http.auto

import quarterdeck.agents.companies.fleet
import quarterdeck.agents.companies.workers
import quarterdeck.agents.runtime.app
import quarterdeck.deck.crew
import quarterdeck.research.server

gc.freeze()
gc.enable()
