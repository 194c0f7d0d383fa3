"""Addresses of servers and the secrets in them: checked, shown without, masked in whatever a server says."""

import string
from collections.abc import Sequence
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

# A shorter text would be masked inside ordinary words.
_SHORTEST = 4
_LONGEST_MESSAGE = 500
_PLAIN = set(string.printable) - set(string.whitespace)


def check_url(url: str) -> None:
    """Refuse what no request can be sent to.

    Raises:
        ValueError: says what is wrong, without user, password and query.
    """
    shown = public_url(url)
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"base URL {shown!r}: must begin with http:// or https://")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"base URL {shown!r}: {error}") from error
    if not host or port == 0:
        raise ValueError(f"base URL {shown!r}: names no {'host' if not host else 'port'}")
    if not set(url) <= _PLAIN:
        raise ValueError(f"base URL {shown!r}: has spaces, line breaks or other characters that no address has")


def public_url(url: str) -> str:
    """Return an address without user, password and query, where people put keys."""
    head, mark, rest = url.partition("://")
    if not mark:
        return url.partition("?")[0].rpartition("@")[2]
    authority, slash, path = rest.partition("/")
    return f"{head}://{authority.rpartition('@')[2].partition('?')[0]}{slash}{path.partition('?')[0].partition('#')[0]}"


def query_of(url: str) -> dict[str, str]:
    """Return the query of an address, which every request repeats."""
    return dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))


def without_query(url: str) -> str:
    """Return an address without its query, as requests are built on it."""
    return urlunsplit(urlsplit(url)._replace(query="", fragment=""))


class Mask:
    """Hides a key, and the secrets of an address, in texts of servers and libraries.

    Args:
        key: the API key; empty if there is none.
        url: the address as the user gave it.
    """

    def __init__(self, key: str, url: str) -> None:
        parts = urlsplit(url)
        found = [key, parts.password or "", "" if parts.password else parts.username or ""]
        found += [part.partition("=")[2] for part in parts.query.split("&")]
        spelled = {spelling for secret in found for spelling in (secret, unquote(secret))}
        self._secrets: Sequence[str] = sorted((s for s in spelled if len(s) >= _SHORTEST), key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Return the text with ``***`` in the place of every secret, in one line of bounded length."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        # Shortened last: half a key would no longer be found.
        return printable(" ".join(text.split()))[:_LONGEST_MESSAGE]


def printable(text: str) -> str:
    """Return a text without characters that steer a terminal, or that no file can hold."""
    return "".join(c if c.isprintable() else "�" for c in text)
