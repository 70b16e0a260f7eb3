"""The lists of waiting images, one a route (see `core.routing`), and how many wait in all."""

from __future__ import annotations

from typing import Final

from offshelf.queue.connection import PREFIX

# Set: the routes whose lists may have something in them.
ROUTES_KEY: Final = f"{PREFIX}routes"
LIST_PREFIX: Final = f"{PREFIX}images:"

# KEYS[1] the set of routes
# ARGV[1] the prefix of the lists
# Answers the length of all lists together; routes whose list is empty leave the set.
QUEUED: Final = """
local total = 0
for _, route in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local waiting = redis.call('LLEN', ARGV[1] .. route)
  if waiting == 0 then redis.call('SREM', KEYS[1], route) end
  total = total + waiting
end
return total
"""


def list_key(route: str) -> str:
    """List, with a TTL: packed `ImageRequest`s of all clients, oldest at the left."""
    return f"{LIST_PREFIX}{route}"
