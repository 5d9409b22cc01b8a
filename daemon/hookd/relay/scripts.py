"""Owns the Lua scripts that Redis runs for the relay: each is one step there, and sees who owns an entry as it acts.

Keys are always the stream, `STREAM:exhausted`, `STREAM:refused` and `STREAM:relay:GROUP`, a hash with the cursors and
counts. Arguments begin with the group and the relay's own name in it. Other names there are `parked:CLIENT` for what
one client has beyond what is held, and `released` for what a relay that stopped has left behind.

Rules: nothing that needs memory comes before what frees or ends something, and its failure is told, not raised: a full
Redis still reads and acknowledges. An entry's fields are copied inside Redis.
Limits: 1,000 ids a call, so that none takes longer than some milliseconds.
"""

# The five fields of an entry in order, and its whole size; one that is too large comes without its payload.
_ENTRY = """
local function entry_of(id, fields, bytes_max)
  local found, size = {}, 0
  for i = 1, #fields, 2 do
    found[fields[i]] = fields[i + 1]
    size = size + #fields[i] + #fields[i + 1]
  end
  local payload = found['payload'] or false
  if size > bytes_max then payload = false end
  return {id, found['client'] or false, found['type'] or false, found['id'] or false, payload,
          found['expires_at'] or false, size}
end
"""

_MEMBERS = """
local function members()
  local all = {}
  for _, one in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local named = {}
    for i = 1, #one, 2 do named[one[i]] = one[i + 1] end
    all[#all + 1] = {named['name'], named['pending'], named['idle']}
  end
  return all
end
"""

# New entries, up to a number and a number of bytes. Reading some more than fits at once is what one call may overshoot.
# Those of the clients that are named pass by: they go on to their client's name, and nothing of them comes out. Where
# an entry is no newer than the newest one that was ever read, it may have been posted, and does not pass. Returned are
# the last id, whether the end was reached, the entries, and how many passed of whom, with how many are there now.
READ = (
    _ENTRY
    + """
local function is_larger(number, other)
  if #number ~= #other then return #number > #other end
  return number > other
end
local function is_newer(id, other)
  local time, sequence = string.match(id, '(%d+)-(%d+)')
  local other_time, other_sequence = string.match(other, '(%d+)-(%d+)')
  if time ~= other_time then return is_larger(time, other_time) end
  return is_larger(sequence, other_sequence)
end
local count, bytes_left, entry_bytes_max = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local looked_at_left, newest = tonumber(ARGV[6]), ARGV[7]
local passing, out, last, is_dry = {}, {}, false, 0
for i = 8, #ARGV do passing[ARGV[i]] = {} end
while #out < count and bytes_left > 0 and looked_at_left > 0 do
  local some = math.min(count - #out, 4)
  local read = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', some, 'STREAMS', KEYS[1], '>')
  local found = read and read[1][2] or {}
  for _, one in ipairs(found) do
    local entry = entry_of(one[1], one[2], entry_bytes_max)
    local ids = passing[entry[2] or '']
    if ids and is_newer(one[1], newest) then ids[#ids + 1] = one[1] else out[#out + 1] = entry end
    last = one[1]
    bytes_left = bytes_left - math.min(entry[7], entry_bytes_max)
  end
  looked_at_left = looked_at_left - #found
  if #found < some then
    is_dry = 1
    break
  end
end
local passed = {}
for client, ids in pairs(passing) do
  local size = #ids
  if size > 0 then
    for _, word in ipairs({'RETRYCOUNT', 1, 'JUSTID'}) do ids[#ids + 1] = word end
    redis.call('XCLAIM', KEYS[1], ARGV[1], 'parked:' .. client, 0, unpack(ids))
    passed['parked:' .. client] = {client, size, size}
  end
end
if next(passed) then
  for _, one in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    if passed[one[2]] then passed[one[2]][3] = one[4] end
  end
end
local listed = {}
for _, one in pairs(passed) do listed[#listed + 1] = one end
if not last then
  for _, one in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
    local named = {}
    for i = 1, #one, 2 do named[one[i]] = one[i + 1] end
    if named['name'] == ARGV[1] then last = named['last-delivered-id'] end
  end
end
return {last or '0-0', is_dry, out, listed}
"""
)

# The relay is alive: reading its own history from the end on gives nothing, and is noted as seen. Then how all stands.
SURVEY = (
    _MEMBERS
    + """
redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', 1, 'STREAMS', KEYS[1], '18446744073709551615-0')
local lag, pending = false, 0
for _, one in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local named = {}
  for i = 1, #one, 2 do named[one[i]] = one[i + 1] end
  if named['name'] == ARGV[1] then lag, pending = named['lag'] or false, named['pending'] end
end
return {lag, pending, members()}
"""
)

# Acknowledges. What was exhausted, refused or trimmed gets its line first, once: only while it is pending.
SETTLE = """
local at = 3
local delivered = tonumber(ARGV[at])
local done, failed, problem = 0, {}, ''
if delivered > 0 then done = redis.call('XACK', KEYS[1], ARGV[1], unpack(ARGV, at + 1, at + delivered)) end
at = at + delivered + 1
local others = tonumber(ARGV[at])
for n = 0, others - 1 do
  local id, kind, client, event, why, detail = unpack(ARGV, at + 1 + 6 * n, at + 6 + 6 * n)
  local is_pending = #redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1) > 0
  if is_pending or kind == 'trimmed' then
    local found = redis.call('XRANGE', KEYS[1], id, id)
    local fields = {'client', client, 'id', event}
    if found[1] then
      fields = {}
      for i = 1, math.min(#found[1][2], 200) do fields[i] = found[1][2][i] end
    end
    local key, name = KEYS[3], 'problem'
    if kind == 'exhausted' then key, name = KEYS[2], 'reason' end
    fields[#fields + 1] = 'entry'
    fields[#fields + 1] = id
    fields[#fields + 1] = name
    fields[#fields + 1] = why
    fields[#fields + 1] = 'detail'
    fields[#fields + 1] = detail
    local added = redis.pcall('XADD', key, '*', unpack(fields))
    if type(added) == 'table' and added.err then
      failed[#failed + 1] = id
      problem = added.err
    else
      redis.call('XACK', KEYS[1], ARGV[1], id)
      done = done + 1
    end
  end
end
at = at + 6 * others + 1
if #failed == 0 then
  for i = at, #ARGV - 1, 2 do
    local set = redis.pcall('HSET', KEYS[4], ARGV[i], ARGV[i + 1])
    if type(set) == 'table' and set.err then problem = set.err end
  end
end
return {done, failed, problem}
"""

# Hands entries of one client back: they stay pending, under its name. Returns those that went, and all that are there.
# How often one was delivered says whether it may have been posted: 2, or 1.
PARK = """
local name = 'parked:' .. ARGV[3]
local gone = {}
for i = 4, #ARGV, 2 do
  local own = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2])
  if #own > 0 then
    redis.call('XCLAIM', KEYS[1], ARGV[1], name, 0, ARGV[i], 'RETRYCOUNT', ARGV[i + 1], 'JUSTID')
    gone[#gone + 1] = ARGV[i]
  end
end
local count = 0
for _, one in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  if one[2] == name then count = one[4] end
end
return {gone, count}
"""

# Claims some of them again, the oldest first.
TAKE_BACK = (
    _ENTRY
    + """
local name = 'parked:' .. ARGV[3]
local count, bytes_left, entry_bytes_max = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', count, name)
local out, trimmed, taken = {}, {}, 0
for _, one in ipairs(pending) do
  if bytes_left <= 0 then break end
  taken = taken + 1
  local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, one[1], 'RETRYCOUNT', one[4])
  if claimed[1] then
    local entry = entry_of(claimed[1][1], claimed[1][2], entry_bytes_max)
    entry[8] = one[4]
    out[#out + 1] = entry
    bytes_left = bytes_left - math.min(entry[7], entry_bytes_max)
  else
    redis.call('XACK', KEYS[1], ARGV[1], one[1])
    trimmed[#trimmed + 1] = one[1]
  end
end
local left = 0
for _, one in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  if one[2] == name then left = one[4] end
end
if left == 0 then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], name) end
return {out, trimmed, left}
"""
)

# Takes over what a relay that is gone has left: only if it has not been seen for so long, looked at in the same step.
# Each is claimed by itself: entries of the living stand between them. Its name and cursors go with the last one.
TAKE_OVER = (
    _MEMBERS
    + """
local dead, idle_min, count = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local is_gone = false
for _, one in ipairs(members()) do
  if one[1] == dead and (one[3] >= idle_min or dead == 'released') then is_gone = true end
end
if not is_gone then return {{}, {}, {}, 0} end
local out, trimmed = {}, {}
local pending = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', count, dead)
for _, one in ipairs(pending) do
  local got = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, one[1], 'COUNT', 1, 'JUSTID')
  if got[2][1] == one[1] then
    local client, event = false, false
    local fields = redis.call('XRANGE', KEYS[1], one[1], one[1])[1][2]
    for i = 1, #fields, 2 do
      if fields[i] == 'client' then client = fields[i + 1] end
      if fields[i] == 'id' then event = fields[i + 1] end
    end
    out[#out + 1] = {one[1], client, event}
  else
    redis.call('XACK', KEYS[1], ARGV[1], one[1])
    trimmed[#trimmed + 1] = one[1]
  end
end
local cursors, prefix = {}, 'cursor ' .. dead .. ' '
local kept = redis.call('HGETALL', KEYS[4])
for i = 1, #kept, 2 do
  if string.sub(kept[i], 1, #prefix) == prefix then
    local feed = string.sub(kept[i], #prefix + 1)
    cursors[#cursors + 1] = feed
    cursors[#cursors + 1] = kept[i + 1]
    redis.pcall('HSET', KEYS[4], 'cursor ' .. ARGV[2] .. ' ' .. feed, kept[i + 1])
    if #pending < count then redis.call('HDEL', KEYS[4], kept[i]) end
  end
end
if #pending < count then redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], dead) end
return {out, trimmed, cursors, #pending}
"""
)

OWN_IDS = """
local ids = {}
for i, one in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[3], '+', ARGV[4], ARGV[2])) do ids[i] = one[1] end
return ids
"""

# Entries by their ids, as far as they are the relay's own: where an answer of Redis was lost, it has some unseen.
OWN = """
local out = {}
for i = 3, #ARGV do
  if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) > 0 then
    local client, event = false, false
    local found = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])
    if found[1] then
      for n = 1, #found[1][2], 2 do
        if found[1][2][n] == 'client' then client = found[1][2][n + 1] end
        if found[1][2][n] == 'id' then event = found[1][2][n + 1] end
      end
    end
    out[#out + 1] = {ARGV[i], client, event}
  end
end
return out
"""

# Events that are posted again, counted before they are: whatever is killed then, no repetition goes uncounted. Behind
# each id stands how much it counts. What is not the relay's own any more is left out.
FETCH = (
    _ENTRY
    + """
local bytes_left, entry_bytes_max = tonumber(ARGV[3]), tonumber(ARGV[4])
local out, lost, again = {}, {}, 0
for i = 5, #ARGV, 2 do
  if bytes_left <= 0 then break end
  if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1, ARGV[2]) == 0 then
    lost[#lost + 1] = ARGV[i]
  else
    local found = redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])
    if found[1] then
      local entry = entry_of(found[1][1], found[1][2], entry_bytes_max)
      out[#out + 1] = entry
      bytes_left = bytes_left - math.min(entry[7], entry_bytes_max)
      again = again + tonumber(ARGV[i + 1])
    else
      out[#out + 1] = {ARGV[i], false, false, false, false, false, 0}
    end
  end
end
if again > 0 then redis.pcall('HINCRBY', KEYS[4], 'posted_again', again) end
return {out, lost}
"""
)

# A relay that stops leaves what it holds to whoever is there, at once.
RELEASE = """
local own = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1000, ARGV[2])
local ids = {}
for i, one in ipairs(own) do ids[i] = one[1] end
if #ids > 0 then
  ids[#ids + 1] = 'JUSTID'
  redis.call('XCLAIM', KEYS[1], ARGV[1], 'released', 0, unpack(ids))
end
if #own < 1000 then
  local kept, prefix = redis.call('HGETALL', KEYS[4]), 'cursor ' .. ARGV[2] .. ' '
  for i = 1, #kept, 2 do
    if string.sub(kept[i], 1, #prefix) == prefix then
      redis.pcall('HSET', KEYS[4], 'cursor released ' .. string.sub(kept[i], #prefix + 1), kept[i + 1])
      redis.call('HDEL', KEYS[4], kept[i])
    end
  end
  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
end
return #own
"""
