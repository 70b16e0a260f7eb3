"""The Lua that changes job records: each script is one atomic step, with its event.

An event is a stream entry with the fields `type`, `state`, `stage`, `total`, `done`, `failed`,
`reused` and, once it is known, `images_per_s`; those of type `state` have also `error` and `result`
(JSON) where the record has them, those of type `progress` in the same way `search`. A script on a
record that is gone changes nothing.
"""

from __future__ import annotations

from typing import Final

# An event stream keeps about so many entries; a follower that comes later starts further on.
MAX_EVENTS: Final = 2000

_TELL: Final = f"""
local function tell(record, events, kind)
  local names = {{'state', 'stage', 'total', 'done', 'failed', 'reused',
    'images_per_s'}}
  if kind == 'state' then
    names[#names + 1] = 'error'
    names[#names + 1] = 'result'
  else
    names[#names + 1] = 'search'
  end
  local values = redis.call('HMGET', record, unpack(names))
  local entry = {{'type', kind}}
  for i, name in ipairs(names) do
    if values[i] then
      entry[#entry + 1] = name
      entry[#entry + 1] = values[i]
    end
  end
  redis.call('XADD', events, 'MAXLEN', '~', '{MAX_EVENTS}', '*', unpack(entry))
end
"""

# KEYS[1] record (hash)   KEYS[2] events (stream)   KEYS[3] the owner's index (sorted set)
# KEYS[4] the idempotency key (string), or '' for none   KEYS[5] jobs that nobody has made sure of
# KEYS[6] the owner's jobs that have not ended (set)
# ARGV[1] job id   ARGV[2] digest of the params   ARGV[3] TTL of the idempotency key, seconds
# ARGV[4] time of creation   ARGV[5...] the record's fields and values in turn
# Answers '<digest> <job id>' of the job that the idempotency key stands for. A second call with
# the same job id (a retry after a lost answer) changes nothing.
CREATE: Final = (
    _TELL
    + """
local mine = ARGV[2] .. ' ' .. ARGV[1]
if KEYS[4] ~= '' then
  local first = redis.call('GET', KEYS[4])
  if first then return first end
  redis.call('SET', KEYS[4], mine, 'EX', ARGV[3])
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], unpack(ARGV, 5))
  redis.call('ZADD', KEYS[3], 0, ARGV[1])
  redis.call('ZADD', KEYS[5], ARGV[4], ARGV[1])
  redis.call('SADD', KEYS[6], ARGV[1])
  tell(KEYS[1], KEYS[2], 'state')
end
return mine
"""
)

# KEYS[1] record   KEYS[2] events   KEYS[3] finished shards (set)   KEYS[4] tries (hash)
# KEYS[5] its latest spells of work (list)   KEYS[6] jobs that nobody has made sure of (sorted set)
# KEYS[7] the start of the name of an owner's set of jobs that have not ended
# ARGV[1] job id   ARGV[2] the stage that the record must be in, or '' for any
# ARGV[3] the state to enter   ARGV[4] the states it may be entered from, parted by spaces
# ARGV[5] seconds after which the first five keys go, 0 for never: not an end
# ARGV[6] how many of the pairs that follow are written only where the record has no such field
# ARGV[7...] fields and values in turn
# Answers 'ok', 'gone', or the present state where that or the stage forbids the change.
CHANGE: Final = (
    _TELL
    + """
local state = redis.call('HGET', KEYS[1], 'state')
if not state then
  redis.call('ZREM', KEYS[6], ARGV[1])
  return 'gone'
end
if not string.find(' ' .. ARGV[4] .. ' ', ' ' .. state .. ' ', 1, true) then return state end
if ARGV[2] ~= '' and redis.call('HGET', KEYS[1], 'stage') ~= ARGV[2] then return state end
redis.call('HSET', KEYS[1], 'state', ARGV[3])
redis.call('ZREM', KEYS[6], ARGV[1])
local once = tonumber(ARGV[6])
for i = 7, #ARGV, 2 do
  local command = (i - 7) / 2 < once and 'HSETNX' or 'HSET'
  redis.call(command, KEYS[1], ARGV[i], ARGV[i + 1])
end
tell(KEYS[1], KEYS[2], 'state')
if tonumber(ARGV[5]) > 0 then
  for i = 1, 5 do redis.call('EXPIRE', KEYS[i], ARGV[5]) end
  redis.call('SREM', KEYS[7] .. redis.call('HGET', KEYS[1], 'owner'), ARGV[1])
end
return 'ok'
"""
)

# KEYS[1] record   KEYS[2] events
# ARGV[1] stage   ARGV[2] number of items   ARGV[3] number of shards
PLAN: Final = (
    _TELL
    + """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if redis.call('HSETNX', KEYS[1], 'shards', ARGV[3]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'stage', ARGV[1], 'total', ARGV[2])
tell(KEYS[1], KEYS[2], 'progress')
return 1
"""
)

# KEYS[1] record   KEYS[2] events   KEYS[3] finished shards (set)   KEYS[4] spells of work (list)
# ARGV[1] number of the shard   ARGV[2] items done   ARGV[3] items failed
# ARGV[4] of those done, how many were there already   ARGV[5] the spell, or '' for none
# ARGV[6] images a second with this shard, or ''   ARGV[7] how many spells are kept
# Answers 1 when every planned shard is finished, whether or not this call was the one.
SHARD_DONE: Final = (
    _TELL
    + """
local shards = redis.call('HGET', KEYS[1], 'shards')
if not shards then return 0 end
if redis.call('SADD', KEYS[3], ARGV[1]) == 1 then
  redis.call('HINCRBY', KEYS[1], 'done', ARGV[2])
  redis.call('HINCRBY', KEYS[1], 'failed', ARGV[3])
  redis.call('HINCRBY', KEYS[1], 'reused', ARGV[4])
  if ARGV[5] ~= '' then
    redis.call('RPUSH', KEYS[4], ARGV[5])
    redis.call('LTRIM', KEYS[4], -tonumber(ARGV[7]), -1)
  end
  if ARGV[6] ~= '' then redis.call('HSET', KEYS[1], 'images_per_s', ARGV[6]) end
  tell(KEYS[1], KEYS[2], 'progress')
  local ttl = redis.call('TTL', KEYS[1])
  if ttl > 0 then
    redis.call('EXPIRE', KEYS[3], ttl)
    redis.call('EXPIRE', KEYS[4], ttl)
  end
end
return redis.call('SCARD', KEYS[3]) >= tonumber(shards) and 1 or 0
"""
)

# KEYS[1] record   KEYS[2] events
# ARGV[1] stage   ARGV[2] how far its search is (JSON)
SEARCHED: Final = (
    _TELL
    + """
if redis.call('HGET', KEYS[1], 'state') ~= 'running' then return 0 end
redis.call('HSET', KEYS[1], 'stage', ARGV[1], 'search', ARGV[2])
tell(KEYS[1], KEYS[2], 'progress')
return 1
"""
)

# KEYS[1] record   KEYS[2] tries (hash)
# ARGV[1] name of the step
# Answers how often the step was started since it last ended cleanly; `attempts` of the record
# keeps the highest such number of any step.
TRIED: Final = """
local attempts = redis.call('HGET', KEYS[1], 'attempts')
if not attempts then return 1 end
local tries = redis.call('HINCRBY', KEYS[2], ARGV[1], 1)
if tries > tonumber(attempts) then redis.call('HSET', KEYS[1], 'attempts', tries) end
local ttl = redis.call('TTL', KEYS[1])
if ttl > 0 then redis.call('EXPIRE', KEYS[2], ttl) end
return tries
"""
