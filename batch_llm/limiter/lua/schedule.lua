-- One call of a pool's schedule; see schedule.py for what it does and why.
-- Belongs here: the order of a call, time, lost and aged memory, a person's change, reading.
--
-- ARGV of a call: 'call', the numbers of wire.Call as redis_schedule.py lists them, the keys of the records that its
-- items are about. Reply: the numbers of wire.Reply.
-- ARGV of the rest, packed: what (change | read), now_us, the change of views.checked_change. Reply, packed: 1; clock_s
-- and the memory.

local ROUND_S = 0.4
local ROUND_MOST_S = 2
local ROWS_PER_SLICE = 20
local LIVE_ROUND_S = 0.05
local LIVE_ROUND_SHARE = 0.45
local RECLAIM_ROUNDS = 4
local OUTAGE_S = 1.2
local GRACE_S = 0.6
local OVERHANG = 2.2
local FADE_S = 1
local USE_FADE_S = 3
local RULE_NUMBERS = 8
local ITEM_NUMBERS = 10
local REPLY = '<ddddddd'
local KEPT_S = 86400
local KEPT_LONG_S = 604800 -- when a day's limit or a person's change is in it

function pool.steady(clock_s)
  local memory = pool.memory
  local now_s = clock_s + memory[SKEW_S]
  local back_s = memory[LAST_S] - now_s
  if memory[EPOCH] == 0 or back_s <= 0 then return now_s end
  if back_s >= GRACE_S then memory[SKEW_S] = memory[SKEW_S] + back_s end
  return memory[LAST_S]
end

function pool.remember(step, epoch, seq, depth_s, outage)
  local memory = pool.memory
  local floor, max = math.floor, math.max
  local now_s = step.now_s
  local overhang_s = OVERHANG * max(ROUND_S, memory[LAST_ROUND_S])
  memory[SEQ] = memory[SEQ] + 1
  if memory[EPOCH] == 0 then
    memory[EPOCH] = max(floor(now_s * 1000), epoch + 1)
    memory[LAST_S] = now_s
    for place = 1, DIMENSIONS do memory[TAT + place] = now_s end
    if epoch == 0 then return true end
    pool.stand_still(step, max(depth_s, overhang_s))
    return false
  end
  if epoch > memory[EPOCH] or (epoch == memory[EPOCH] and seq >= memory[SEQ]) then
    memory[EPOCH] = max(floor(now_s * 1000), epoch + 1)
    memory[SEQ] = max(memory[SEQ], seq + 1)
    pool.stand_still(step, max(depth_s, overhang_s))
    return false
  end
  local silent = now_s - memory[LAST_S] > OUTAGE_S and step.at_work > 0
  if silent then memory[LAST_S] = now_s end
  if outage or silent then
    pool.stand_still(step, max(GRACE_S, memory[LAST_ROUND_S], outage and 0 or overhang_s))
  end
  if epoch == 0 or epoch == memory[EPOCH] then return true end
  local ago_s = max(0, now_s - memory[EPOCH] / 1000)
  if depth_s > ago_s then pool.stand_still(step, depth_s - ago_s) end
  return false
end

function pool.fade(step)
  local memory = pool.memory
  local max = math.max
  local elapsed_s = max(0, step.now_s - memory[LAST_S])
  memory[LAST_S] = max(memory[LAST_S], step.now_s)
  step.elapsed_s = elapsed_s
  if elapsed_s > 0 then
    local keep = FADE_S / (FADE_S + elapsed_s)
    memory[ROWS] = memory[ROWS] * keep
    memory[REJECTED] = memory[REJECTED] * keep
  end
end

function pool.fade_flow(step)
  local elapsed_s = step.elapsed_s
  if elapsed_s <= 0 then return end
  local memory = pool.memory
  local max, min = math.max, math.min
  local before_s, keep = step.now_s - elapsed_s, pool.faded(elapsed_s, USE_FADE_S)
  for n = 1, step.count do
    local rule = step.rules[n]
    if rule[KIND] == CLOCK then
      local place, rate = FLOWS + rule[PLACE], step.rates[n]
      local booked_to_s, flow = memory[TAT + rule[PLACE]] - rule[BURST_S], memory[place]
      local before = min(flow, max(0, booked_to_s - before_s) * rate)
      local now = min(before, max(0, booked_to_s - step.now_s) * rate)
      memory[place] = now + (flow - before) * keep + (before - now) * USE_FADE_S * (1 - keep) / elapsed_s
    end
  end
end

function pool.set_round(step)
  local memory = pool.memory
  local huge, max, min = math.huge, math.max, math.min
  local wanted = ROWS_PER_SLICE * step.at_work / max(1, memory[ROWS])
  step.round_s = max(ROUND_S, min(ROUND_MOST_S, wanted))
  if step.now_s - memory[LIVE_SEEN_S] < LIVE_MEMORY_S then
    local reserve_s = huge
    for n = 1, step.count do
      if step.rules[n][KIND] == CLOCK then reserve_s = min(reserve_s, step.rules[n][LIVE_BURST_S]) end
    end
    if reserve_s == huge then reserve_s = 0 end
    step.round_s = min(step.round_s, max(LIVE_ROUND_S, LIVE_ROUND_SHARE * reserve_s))
    step.reclaim_s = RECLAIM_ROUNDS * step.round_s
  end
  memory[LAST_ROUND_S] = step.round_s
end

function pool.reply_of(step, grants)
  local memory, count = pool.memory, step.count
  local max = math.max
  local days, now_s = { 0, 0, 0, 0, 0, 0 }, step.now_s
  for n = 1, count do
    local kind, tat = step.rules[n][KIND], memory[TAT + step.rules[n][PLACE]]
    days[n] = kind == CLOCK and 0 or kind == FIXED and tat or max(0, tat - now_s)
  end
  local parts = {
    struct.pack(
      REPLY, memory[EPOCH], memory[SEQ], now_s, memory[VERSION], max(0, memory[PAUSE_UNTIL_S] - now_s),
      memory[PAUSE_DIMENSION], memory[TOLERATED] > 0 and 1 or 0
    ),
    pool.doubles(step.rates, count), pool.doubles(step.limits, count), pool.doubles(days, count),
  }
  local packing = '<' .. string.rep('d', 2 * count + 5)
  for i = 1, #grants do parts[i + 4] = struct.pack(packing, unpack(grants[i], 1, 2 * count + 5)) end
  return table.concat(parts)
end

function pool.doubles(numbers, count)
  return struct.pack('<' .. string.rep('d', count), unpack(numbers, 1, count))
end

-- `count` records of `length` numbers each, from this byte on; and where the next byte is.
function pool.lists(numbers, at, count, length)
  local packing, lists = '<' .. string.rep('d', length), {}
  for i = 1, count do
    lists[i] = { struct.unpack(packing, numbers, at) }
    at = at + 8 * length
  end
  return lists, at
end

function pool.call(numbers)
  local call = { struct.unpack(CALL, numbers) }
  pool.load_memory()
  local memory, count = pool.memory, call[RULE_COUNT]
  -- of a state that was lost
  if memory[EPOCH] == 0 then redis.call('DEL', KEYS[RECORDS], KEYS[BACKLOGGED], KEYS[HOLDERS], KEYS[KNOWN]) end
  local rules, items, at
  rules, at = pool.lists(numbers, CALL_BYTES + 1, count, RULE_NUMBERS)
  items, at = pool.lists(numbers, at, call[ITEM_COUNT], ITEM_NUMBERS + 6 * count)
  local step = pool.new_step(call, rules)
  step.now_s = pool.steady(pool.clock_s(call[NOW_US]))
  step.wall_s = step.now_s - memory[SKEW_S]
  local known = pool.remember(step, call[CALLER_EPOCH], call[CALLER_SEQ], call[DEPTH_S], call[OUTAGE] ~= 0)
  pool.begin_days(step)
  if not known and call[DAY_COUNT] == count then pool.recall_days(step, numbers, call[AGE_S]) end
  pool.fade(step)
  if call[THROTTLE_COUNT] + call[OBSERVED_COUNT] > 0 then pool.listen_and_learn(step, numbers, at, call) end
  pool.probe(step)
  pool.set_speed(step)
  pool.fade_flow(step)
  pool.set_round(step)
  local weights = pool.load_lineages(items)
  if step.now_s >= memory[LOOK_S] then pool.forget_absent(step) end
  local grants = {}
  for i = 1, #items do
    local item = items[i]
    local line = pool.lineage(step, item, weights and weights[i])
    if known then pool.settle(step, line, item) end
    local permits = pool.give_permits(step, line, item)
    grants[i] = pool.book(step, line, item)
    grants[i][4] = permits
  end
  pool.save_memory(step)
  return pool.reply_of(step, grants)
end

function pool.clock_s(now_us)
  if now_us >= 0 then return now_us / 1e6 end
  local time = redis.call('TIME')
  return (time[1] * 1e6 + time[2]) / 1e6
end

-- What few calls need is made when it is needed.
function pool.rare_in_schedule()
  function pool.stand_still(step, duration_s)
    local memory = pool.memory
    memory[VERSION] = memory[VERSION] + 1
    for n = 1, step.count do
      local rule = step.rules[n]
      local tat = TAT + rule[PLACE]
      if rule[KIND] == CLOCK then memory[tat] = math.max(memory[tat], step.now_s + rule[BURST_S] + duration_s) end
    end
  end

  function pool.listen_and_learn(step, numbers, at, call)
    local throttles, observed
    throttles, at = pool.lists(numbers, at, call[THROTTLE_COUNT], 3)
    observed = pool.lists(numbers, at, call[OBSERVED_COUNT], 3)
    pool.listen(step, observed)
    pool.learn(step, throttles)
  end

  -- the days are the last numbers of a call
  function pool.recall_days(step, numbers, age_s)
    local memory = pool.memory
    local max = math.max
    local days = pool.lists(numbers, #numbers - 8 * step.count + 1, 1, step.count)[1]
    for n = 1, step.count do
      local rule = step.rules[n]
      local tat = TAT + rule[PLACE]
      if rule[KIND] == ROLLING then
        memory[tat] = max(memory[tat], step.now_s + days[n] - age_s)
      elseif rule[KIND] == FIXED and rule[PERIOD_S] - pool.period_ends_in_s(step, rule) >= age_s then
        memory[tat] = max(memory[tat], days[n])
      end
    end
  end

  function pool.kept_s(step)
    local memory = pool.memory
    for n = 1, step.count do
      if step.rules[n][KIND] ~= CLOCK then return KEPT_LONG_S end
    end
    for place = CHANGED + 1, CHANGED + DIMENSIONS do
      if memory[place] > 0 then return KEPT_LONG_S end
    end
    return memory[WEIGHTED] > 0 and KEPT_LONG_S or KEPT_S
  end

  function pool.change(now_us, changed, weights, resume)
    pool.load_memory()
    local memory = pool.memory
    for i = 1, #changed do memory[CHANGED + changed[i][1] + 1] = changed[i][2] end
    for i = 1, #weights do
      local user, weight = weights[i][1], weights[i][2]
      if weight > 0 then redis.call('HSET', KEYS[WEIGHTS], user, weight) else redis.call('HDEL', KEYS[WEIGHTS], user) end
    end
    memory[WEIGHTED] = redis.call('HLEN', KEYS[WEIGHTS])
    if resume ~= 0 then
      memory[PAUSE_UNTIL_S] = pool.steady(pool.clock_s(now_us))
      memory[PAUSE_DIMENSION] = -1
      for place = FACTOR + 1, FACTOR + DIMENSIONS do memory[place] = 1 end
    end
    memory[VERSION] = memory[VERSION] + 1
    pool.save_state()
    for n = 1, #KEYS do redis.call('EXPIRE', KEYS[n], KEPT_LONG_S) end
    return 1
  end

  function pool.read(now_us)
    pool.load_memory()
    local flat = redis.call('HGETALL', KEYS[RECORDS])
    for n = 2, #flat, 2 do flat[n] = pool.record_of(flat[n]) end
    local times = {}
    for set = BACKLOGGED, KNOWN do times[#times + 1] = redis.call('ZRANGE', KEYS[set], 0, -1, 'WITHSCORES') end
    return { pool.clock_s(now_us), pool.memory, pool.tail, redis.call('HGETALL', KEYS[WEIGHTS]), flat, times }
  end
end

if ARGV[1] == 'call' then return pool.call(ARGV[2]) end
local what, now_us, argument = unpack(cmsgpack.unpack(ARGV[1]))
if what == 'change' then return cmsgpack.pack(pool.change(now_us, unpack(argument))) end
return cmsgpack.pack(pool.read(now_us))
