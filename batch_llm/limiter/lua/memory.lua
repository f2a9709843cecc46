-- A pool's memory in Redis; memory.py says what its fields mean.
-- Belongs here: where it lies, reading it, writing what a call changed. Not here: what is done with it.
--
-- Redis runs the whole script anew for each call, so what is made in it costs each time. Therefore constants stand one to
-- a line (redis_schedule.py puts their values in place of their names), what is rare makes its functions when it is
-- needed, and numbers come and go as doubles packed with struct, all of a record at once: cmsgpack makes a table grow
-- number by number.
--
-- KEYS: state (string: NUMBERS doubles, then the tail), records (hash: key -> doubles), backlogged, holders, known
-- (sorted sets of callers, by time), weights (hash: user -> weight).

-- places in `memory`; of a list the place before its first
local EPOCH = 1
local SEQ = 2
local LAST_S = 3
local SKEW_S = 4
local VERSION = 5
local ROWS = 6
local REJECTED = 7
local DECREASED_S = 8
local STRIKES = 9
local STRUCK_ROWS = 10
local STRUCK_REJECTED = 11
local QUIET_ROWS = 12
local TOLERATED = 13
local TOLERATED_S = 14
local SLOW_START = 15
local PAUSE_UNTIL_S = 16
local PAUSE_DIMENSION = 17
local LIVE_SEEN_S = 18
local MISSING = 19
local PERMITS_OUT = 20
local LAST_ROUND_S = 21
local LOOK_S = 22
local DECREASE = 23
local WEIGHTED = 24 -- how many users have a weight set by a person
local TAT = 24
local PERIOD = 30
local FACTOR = 36
local CEILING = 42
local LEARNED = 48
local CHANGED = 54
local BY_MINUTE = 60
local LARGEST = 66
local FLOWS = 72
local BEFORE_STRIKES = 78
local TAIL_TAT = 84
local LANES = 90 -- four places each
local NUMBERS = 106
local DIMENSIONS = 6
local NEVER_S = -1e9

-- places in records; lanes, users and jobs share S, users and jobs WEIGHT and ACTIVE
local S = 1
local W = 2
local M = 3
local V = 4
local WEIGHT = 5
local ACTIVE = 6
local CALLERS = 2
local FLOW = 3
local FLOW_AT = 4
local AT_WORK = 1
local SEEN = 2
local WAITING = 3
local IN_FLIGHT = 4
local PERMITS = 5
local MISSES = 6
local CREDIT = 7
local OUT = 7 -- plus a place from 1

-- places in a rule of the caller
local PLACE = 1 -- from 1 in here
local KIND = 2
local PER_S = 3
local BURST_S = 4
local LIVE_BURST_S = 5
local PERIOD_S = 6
local OFFSET_S = 7
local WINDOW_S = 8
local CLOCK = 0
local ROLLING = 1
local FIXED = 2

-- places in the numbers of a call
local NOW_US = 1 -- -1: Redis' own time; tests give theirs
local CALLER_EPOCH = 2
local CALLER_SEQ = 3
local DEPTH_S = 4
local MOST = 5
local UNKNOWN = 6
local OUTAGE = 7
local AGE_S = 8
local RULE_COUNT = 9
local ITEM_COUNT = 10
local THROTTLE_COUNT = 11
local OBSERVED_COUNT = 12
local DAY_COUNT = 13
local CALL = '<ddddddddddddd'
local CALL_BYTES = 104

-- places in an item of the caller
local USER_AT = 1 -- where in ARGV the keys of its records are
local JOB_AT = 2
local CALLER_AT = 3
local LANE = 4
local JOB_WEIGHT = 5
local LISTED = 6
local MORE = 7
local ROWS_WAITING = 8
local ROWS_IN_FLIGHT = 9
local PERMITS_WANTED = 10
local COST = 5 -- plus 6 times a dimension, as those that follow
local FIRST = 6
local LARGEST_ROW = 7
local DONE = 8
local USED = 9
local UNUSED = 10

local SHORT = '<dddddd' -- a user's or job's record
local SHORT_BYTES = 48
local LONG = '<ddddddddddddd' -- a caller's
local MANY = 1000 -- arguments of one command
local KEEP_EVERY_CALLS = 256
local KEEP_AFTER_S = 60
local ALL = '<' .. string.rep('d', NUMBERS) .. 's'

local STATE = 1 -- places in KEYS
local RECORDS = 2
local BACKLOGGED = 3
local HOLDERS = 4
local KNOWN = 5
local WEIGHTS = 6

-- What the parts share, and all their functions: one name to catch, so that a function costs little to make.
local pool = {
  memory = false, -- numbers
  tail = '', -- who booked last
  records = {}, -- key -> record: those read or made in this call
  forgotten = false, -- keys of records
  looks = false, -- place in KEYS -> callers to look after from now on, and no more
}

setmetatable(pool, {
  __index = function(_, name)
    pool.rare_in_fair_share() -- the least rare
    if rawget(pool, name) then return rawget(pool, name) end
    pool.rare_in_memory()
    pool.rare_in_step()
    pool.rare_in_throttling()
    pool.rare_in_booking()
    pool.rare_in_permits()
    pool.rare_in_schedule()
    return rawget(pool, name)
  end,
})

function pool.load_memory()
  local packed = redis.call('GET', KEYS[STATE])
  if packed then
    pool.memory = { struct.unpack(ALL, packed) }
    pool.tail = pool.memory[NUMBERS + 1]
  else
    pool.memory = pool.fresh_memory()
  end
end

function pool.record_of(packed)
  return { struct.unpack(#packed == SHORT_BYTES and SHORT or LONG, packed) }
end

-- Read these records in one go.
function pool.load_records(keys, first_key)
  local records = pool.records
  for first = first_key, #keys, MANY do
    local last = math.min(#keys, first + MANY - 1)
    local found = redis.call('HMGET', KEYS[RECORDS], unpack(keys, first, last))
    for n = first, last do
      local packed = found[n - first + 1]
      if packed and not records[keys[n]] then records[keys[n]] = pool.record_of(packed) end
    end
  end
end

function pool.in_parts(command, set, arguments)
  for first = 1, #arguments, MANY do
    redis.call(command, KEYS[set], unpack(arguments, first, math.min(#arguments, first + MANY - 1)))
  end
end

function pool.save_records()
  local fields, count = {}, 0
  for key, record in pairs(pool.records) do
    fields[count + 1] = key
    if #record > 8 then -- a caller's; unpacked it has one number more, where the string ended
      fields[count + 2] = struct.pack(LONG, unpack(record, 1, 13))
    else
      fields[count + 2] = struct.pack(SHORT, unpack(record, 1, 6))
    end
    count = count + 2
  end
  if pool.forgotten then pool.in_parts('HDEL', RECORDS, pool.forgotten) end
  pool.in_parts('HSET', RECORDS, fields)
end

function pool.save_state()
  pool.memory[NUMBERS + 1] = pool.tail
  redis.call('SET', KEYS[STATE], struct.pack(ALL, unpack(pool.memory, 1, NUMBERS + 1)), 'KEEPTTL')
end

-- Write everything back. The keys go when they are not used for long; that is renewed now and then.
function pool.save_memory(step)
  if pool.looks then pool.save_looks() end
  pool.save_records()
  pool.save_state()
  if pool.memory[SEQ] % KEEP_EVERY_CALLS == 1 or step.elapsed_s > KEEP_AFTER_S then
    local kept_s = pool.kept_s(step)
    for n = 1, #KEYS do redis.call('EXPIRE', KEYS[n], kept_s) end
  end
end

-- What few calls need is made when it is needed.
function pool.rare_in_memory()
  function pool.fresh_memory()
    local fresh = {}
    for place = 1, NUMBERS do fresh[place] = 0 end
    for place = 1, DIMENSIONS do
      fresh[FACTOR + place] = 1
      fresh[BEFORE_STRIKES + place] = 1
    end
    fresh[VERSION], fresh[SLOW_START], fresh[PAUSE_DIMENSION] = 1, 1, -1
    fresh[DECREASED_S], fresh[TOLERATED_S], fresh[PAUSE_UNTIL_S] = NEVER_S, NEVER_S, NEVER_S
    fresh[LIVE_SEEN_S] = NEVER_S
    return fresh
  end

  function pool.save_looks()
    for set, changes in pairs(pool.looks) do
      local added, gone = {}, {}
      for key in pairs(changes.gone) do gone[#gone + 1] = key end
      for key, at_s in pairs(changes.added) do
        added[#added + 1] = at_s
        added[#added + 1] = key
      end
      pool.in_parts('ZREM', set, gone)
      pool.in_parts('ZADD', set, added)
    end
    pool.looks = false
  end
end
