"""A client that asks a server on loopback, quickly."""

import asyncio

from ptdpo.chat.client import ChatClient, ClientSettings, Endpoint
from ptdpo.chat.requests import ChatMessage, ChatRequest
from ptdpo.chat.store import RequestStore
from tests.chat.loopback import Say

QUICK = ClientSettings(first_wait=0.001, longest_wait=0.01, timeout=5.0)


def request(text="question", **fields):
    return ChatRequest(id="1", model="m", messages=(ChatMessage("user", text),), **fields)


def ask(server, store, *requests, settings=QUICK, usage=None, key_env="PTDPO_TEST_KEY"):
    """Ask all requests at once; return replies, or the errors in their place."""

    async def run():
        with RequestStore(store) as kept:
            async with ChatClient(Endpoint(server.url, "m", key_env), kept, settings=settings, usage=usage) as client:
                return await asyncio.gather(*(client.ask(r) for r in requests), return_exceptions=True)

    return asyncio.run(run())


def scripted(*actions):
    """Behave as listed, then answer."""
    return lambda body, number: actions[number] if number < len(actions) else Say("fine")
