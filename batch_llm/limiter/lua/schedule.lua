-- One call of a pool's schedule; see schedule.py for what it does and why.
-- Belongs here: the order of a call, time, lost and aged memory, a person's change, reading.
--
-- ARGV[1], packed: what ("call" | "change" | "read"), now_us (-1: Redis' own time; tests give theirs), then the request
-- of wire.Call, the change of views.checked_change, or nothing. Reply, packed: wire.Reply; 1; clock_s and the memory.

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
  if outage or (now_s - memory[LAST_S] > OUTAGE_S and step.at_work > 0) then
    pool.stand_still(step, max(GRACE_S, outage and depth_s or overhang_s))
  end
  if epoch == 0 or epoch == memory[EPOCH] then return true end
  if depth_s > 0 then pool.stand_still(step, depth_s) end
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
    keep = FLOW_FADE_S / (FLOW_FADE_S + elapsed_s)
    for place = FLOWS + 1, FLOWS + DIMENSIONS do memory[place] = memory[place] * keep end
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
  local memory = pool.memory
  local max = math.max
  local days, now_s = {}, step.now_s
  for n = 1, step.count do
    local kind, tat = step.rules[n][KIND], memory[TAT + step.rules[n][PLACE]]
    days[n] = kind == CLOCK and 0 or kind == FIXED and tat or max(0, tat - now_s)
  end
  return {
    memory[EPOCH], memory[SEQ], now_s, memory[VERSION], step.rates, step.limits, max(0, memory[PAUSE_UNTIL_S] - now_s),
    memory[PAUSE_DIMENSION], memory[TOLERATED] > 0 and 1 or 0, days, grants,
  }
end

function pool.call(clock_s, request)
  local worker, epoch, seq, depth_s, rules, items, most, unknown, throttles, observed, outage, days, age_s =
    unpack(request, 1, 13)
  pool.load_memory()
  local memory = pool.memory
  -- of a state that was lost
  if memory[EPOCH] == 0 then redis.call('DEL', KEYS[RECORDS], KEYS[BACKLOGGED], KEYS[HOLDERS], KEYS[KNOWN]) end
  local step = pool.new_step(rules, most, unknown ~= 0)
  step.now_s = pool.steady(clock_s)
  step.wall_s = step.now_s - memory[SKEW_S]
  local known = pool.remember(step, epoch, seq, depth_s, outage ~= 0)
  pool.begin_days(step)
  if not known then pool.recall_days(step, days, age_s) end
  pool.fade(step)
  if #observed > 0 then pool.listen(step, observed) end
  if #throttles > 0 then pool.learn(step, throttles) end
  pool.probe(step)
  pool.set_speed(step)
  pool.set_round(step)
  local keys, weights = pool.load_lineages(worker, items)
  if step.now_s >= memory[LOOK_S] then pool.forget_absent(step) end
  local grants = {}
  for i = 1, #items do
    local item = items[i]
    local line = pool.lineage(step, item, keys[3 * i - 2], keys[3 * i - 1], keys[3 * i], weights and weights[i])
    if known then pool.settle(step, line, item) end
    local permits = pool.give_permits(step, line, item)
    grants[i] = pool.book(step, line, item)
    grants[i][6] = permits
  end
  pool.save_memory(step)
  return pool.reply_of(step, grants)
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

  function pool.recall_days(step, days, age_s)
    local memory = pool.memory
    local max = math.max
    if #days ~= step.count then return end
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

  function pool.change(clock_s, changed, weights, resume)
    pool.load_memory()
    local memory = pool.memory
    for i = 1, #changed do memory[CHANGED + changed[i][1] + 1] = changed[i][2] end
    for i = 1, #weights do
      local user, weight = weights[i][1], weights[i][2]
      if weight > 0 then redis.call('HSET', KEYS[WEIGHTS], user, weight) else redis.call('HDEL', KEYS[WEIGHTS], user) end
    end
    memory[WEIGHTED] = redis.call('HLEN', KEYS[WEIGHTS])
    if resume ~= 0 then
      memory[PAUSE_UNTIL_S] = pool.steady(clock_s)
      memory[PAUSE_DIMENSION] = -1
      for place = FACTOR + 1, FACTOR + DIMENSIONS do memory[place] = 1 end
    end
    memory[VERSION] = memory[VERSION] + 1
    pool.save_state()
    for n = 1, #KEYS do redis.call('EXPIRE', KEYS[n], KEPT_LONG_S) end
    return 1
  end

  function pool.read(clock_s)
    pool.load_memory()
    local flat = redis.call('HGETALL', KEYS[RECORDS])
    for n = 2, #flat, 2 do flat[n] = pool.record_of(flat[n]) end
    local times = {}
    for set = BACKLOGGED, KNOWN do times[#times + 1] = redis.call('ZRANGE', KEYS[set], 0, -1, 'WITHSCORES') end
    return { clock_s, pool.memory, pool.tail, redis.call('HGETALL', KEYS[WEIGHTS]), flat, times }
  end
end

local what, now_us, argument = unpack(cmsgpack.unpack(ARGV[1]))
local clock_s = now_us / 1e6
if now_us < 0 then
  local time = redis.call('TIME')
  clock_s = (time[1] * 1e6 + time[2]) / 1e6
end
if what == 'call' then return cmsgpack.pack(pool.call(clock_s, argument)) end
if what == 'change' then return cmsgpack.pack(pool.change(clock_s, unpack(argument))) end
return cmsgpack.pack(pool.read(clock_s))
