-- How fast a pool goes; see throttling.py for what it does and why.

local MINUTE_S = 60
local LEAST_ROWS = 20
local SMALLEST_DECREASE = 0.07
local LARGEST_DECREASE = 0.5
local LARGEST_AT_ONCE = 0.3
local SMALLEST_FACTOR = 0.05
local DECREASE_EVERY_S = 1
local HOLD_S = 1.5
local NEAR_CEILING = 0.96
local PROBE_BELOW_PER_S = 0.03
local PROBE_ABOVE_PER_S = 0.001
local PROBE_QUIET_S = 10
local PROBE_SLOWEST = 0.1
local PROBE_FASTEST = 30
local SLOW_START_PER_S = 0.1
local UNKNOWN_PER_S = 0.01
local LARGEST_FACTOR = 1e6
local LONE_REJECTED = 1.2
local LONE_ROWS = 100
local MOST_STRIKES = 4
local STRIKE_S = 6
local STRAY_SHARE = 0.1
local STRAY_ROOM = 2
local STRAY_SPARE = 3
local STRAY_SPARE_SHARE = 0.03
local TOLERATED_FOR_S = 120
local LOW_WATER = 0.005
local MINUTE_BUCKET = 0.5
local LATE_S = 0.007
local WINDOW_SHARE_KEPT_FREE = 0.003
local LARGEST_SHARE_KEPT_FREE = 0.5
local DAY_PAUSE_S = 60
local UNDECLARED_DAY = -3

function pool.limit_of(step, rule)
  local memory = pool.memory
  local place = rule[PLACE]
  if memory[CHANGED + place] > 0 then return memory[CHANGED + place] end
  local learned = memory[LEARNED + place]
  if learned > 0 then return step.unknown and learned or math.min(learned, rule[PER_S]) end
  return rule[PER_S]
end

function pool.probe(step)
  local memory = pool.memory
  local max, min = math.max, math.min
  local now_s = step.now_s
  local quiet_s = now_s - max(memory[DECREASED_S], memory[PAUSE_UNTIL_S])
  if memory[TOLERATED] > 0 and now_s - memory[TOLERATED_S] > TOLERATED_FOR_S then memory[TOLERATED] = 0 end
  if quiet_s <= HOLD_S or step.elapsed_s <= 0 then return end
  local elapsed_s = min(step.elapsed_s, 1)
  local tens = quiet_s / PROBE_QUIET_S
  local pace = min(PROBE_FASTEST, max(PROBE_SLOWEST, tens * tens))
  local busiest = step.unknown and step.at_work > 0 and pool.busiest_of(step) or 0
  for n = 1, step.count do
    local place = step.rules[n][PLACE]
    local factor = memory[FACTOR + place]
    if step.rules[n][KIND] ~= CLOCK then
      -- a day's limit is not probed
    elseif factor < 1 then
      local near = factor >= NEAR_CEILING * memory[CEILING + place]
      local per_s = near and PROBE_ABOVE_PER_S * pace or PROBE_BELOW_PER_S
      memory[FACTOR + place] = min(1, factor + per_s * elapsed_s)
    elseif n == busiest and memory[LEARNED + place] == 0 then
      local grown = factor * (1 + (memory[SLOW_START] > 0 and SLOW_START_PER_S or UNKNOWN_PER_S) * elapsed_s)
      memory[FACTOR + place] = min(LARGEST_FACTOR, grown)
    end
  end
end

function pool.set_speed(step)
  local memory = pool.memory
  local live = step.now_s - memory[LIVE_SEEN_S] < LIVE_MEMORY_S
  for n = 1, step.count do
    local rule = step.rules[n]
    local limit = pool.limit_of(step, rule)
    step.limits[n], step.bursts[n] = limit, rule[BURST_S]
    if rule[KIND] == CLOCK then
      if live then step.bursts[n] = rule[BURST_S] - rule[LIVE_BURST_S] end
      if rule[WINDOW_S] > 0 then limit = pool.in_windows(limit, rule) end
      step.rates[n] = limit * memory[FACTOR + rule[PLACE]]
    else
      step.rates[n] = rule[KIND] == ROLLING and limit or 0
    end
  end
end

-- What few calls need is made when it is needed.
function pool.rare_in_throttling()
  function pool.listen(step, observed)
    local memory = pool.memory
    local max = math.max
    local now_s = step.now_s

    local function compare_level(rule, remaining)
      local tat, limit, burst_s = TAT + rule[PLACE], pool.limit_of(step, rule), rule[BURST_S]
      if rule[KIND] == FIXED then
        memory[tat] = max(memory[tat], limit * rule[PERIOD_S] - remaining)
        return
      end
      local left = (now_s + burst_s - memory[tat]) * limit
      if burst_s > 0 and remaining < left then memory[tat] = now_s + burst_s - remaining / limit end
      if rule[KIND] == CLOCK then
        local per_minute = limit * MINUTE_S
        if remaining > MINUTE_BUCKET * per_minute then memory[BY_MINUTE + rule[PLACE]] = 1 end
        local low_water = LOW_WATER * per_minute
        if remaining < low_water and memory[BY_MINUTE + rule[PLACE]] > 0 then
          memory[tat] = max(memory[tat], now_s + burst_s + (low_water - remaining) / limit)
        end
      end
    end

    for i = 1, #observed do
      local rule, per_s, remaining = step.rules[observed[i][1] + 1], observed[i][2], observed[i][3]
      local place = rule[PLACE]
      if per_s > 0 and per_s ~= memory[LEARNED + place] then
        memory[LEARNED + place] = per_s
        if step.unknown and memory[FACTOR + place] > 1 then memory[FACTOR + place] = 1 end
      end
      if remaining >= 0 then compare_level(rule, remaining) end
    end
  end

  function pool.learn(step, throttles)
    local memory = pool.memory
    local max, min = math.max, math.min
    local now_s, rules = step.now_s, step.rules

    local function is_strike(share)
      local recent = now_s - max(memory[DECREASED_S], memory[PAUSE_UNTIL_S]) < STRIKE_S
      return memory[STRIKES] > 0 and recent and share < STRAY_SHARE
    end

    local function slow_down(hit, share)
      if is_strike(share) then
        memory[STRIKES] = memory[STRIKES] + 1
      else
        memory[STRIKES], memory[STRUCK_ROWS], memory[STRUCK_REJECTED] = 1, 0, 0
        for place = 1, DIMENSIONS do memory[BEFORE_STRIKES + place] = memory[FACTOR + place] end
      end
      memory[DECREASED_S] = now_s
      memory[VERSION] = memory[VERSION] + 1
      if memory[STRIKES] >= MOST_STRIKES then
        for place = 1, DIMENSIONS do
          memory[FACTOR + place] = memory[BEFORE_STRIKES + place]
          memory[CEILING + place] = memory[BEFORE_STRIKES + place]
        end
        local stray = memory[STRUCK_REJECTED] / max(LEAST_ROWS, memory[STRUCK_ROWS])
        memory[TOLERATED] = min(STRAY_SHARE, STRAY_ROOM * stray)
        memory[TOLERATED_S] = now_s
        memory[STRIKES] = 0
        memory[DECREASE] = 1
        memory[PAUSE_UNTIL_S] = now_s
        return
      end
      local decrease = min(LARGEST_DECREASE, max(SMALLEST_DECREASE * memory[STRIKES], share))
      for i = 1, #hit do
        local place = hit[i][PLACE]
        memory[CEILING + place] = memory[FACTOR + place] * (1 - min(LARGEST_DECREASE, share))
        memory[FACTOR + place] = max(SMALLEST_FACTOR, memory[FACTOR + place] * (1 - decrease))
      end
      memory[REJECTED] = 0
      memory[DECREASE] = decrease
    end

    local function slow_down_more(hit)
      local went = memory[ROWS] * (now_s - memory[DECREASED_S]) / FADE_S
      local share = (memory[REJECTED] - math.sqrt(memory[REJECTED])) / max(LEAST_ROWS, went)
      if share > LARGEST_DECREASE then return end
      share = min(LARGEST_AT_ONCE, share)
      if share <= memory[DECREASE] then return end
      for i = 1, #hit do
        local place = hit[i][PLACE]
        memory[FACTOR + place] = max(SMALLEST_FACTOR, memory[FACTOR + place] * (1 - share) / (1 - memory[DECREASE]))
        memory[CEILING + place] = memory[FACTOR + place]
      end
      memory[DECREASE] = share
      if share >= STRAY_SHARE then memory[STRIKES] = 0 end
    end

    local function pause(wait_s, dimension)
      if now_s + wait_s > memory[PAUSE_UNTIL_S] then
        memory[PAUSE_UNTIL_S] = now_s + wait_s
        memory[PAUSE_DIMENSION] = dimension
        memory[VERSION] = memory[VERSION] + 1
      end
    end

    local function day_is_over(n, wait_s)
      local rule = rules[n + 1]
      local tat = TAT + rule[PLACE]
      if rule[KIND] == FIXED then
        memory[tat] = max(memory[tat], pool.limit_of(step, rule) * rule[PERIOD_S])
        if wait_s < 0 then wait_s = pool.period_ends_in_s(step, rule) end
      else
        memory[tat] = max(memory[tat], now_s + rule[BURST_S])
        if wait_s < 0 then wait_s = DAY_PAUSE_S end
      end
      pause(wait_s, n)
    end

    local function clocks()
      local found = {}
      for n = 1, step.count do
        if rules[n][KIND] == CLOCK then found[#found + 1] = rules[n] end
      end
      return found
    end

    local function learn_one(n, count, wait_s)
      memory[REJECTED] = memory[REJECTED] + count
      memory[STRUCK_REJECTED] = memory[STRUCK_REJECTED] + count
      memory[SLOW_START] = 0
      local is_lone = memory[REJECTED] < LONE_REJECTED and memory[QUIET_ROWS] > LONE_ROWS
      memory[QUIET_ROWS] = 0
      local share = memory[REJECTED] / max(LEAST_ROWS, memory[ROWS])
      local tolerated = memory[TOLERATED] * memory[ROWS] + min(STRAY_SPARE, STRAY_SPARE_SHARE * memory[ROWS])
      if memory[TOLERATED] > 0 and memory[REJECTED] <= tolerated then return end
      if wait_s > 0 then pause(wait_s, -1) end
      if is_lone then return end
      local hit = n >= 0 and { rules[n + 1] } or clocks()
      for i = 1, #hit do
        local tat = TAT + hit[i][PLACE]
        memory[tat] = max(memory[tat], now_s + hit[i][BURST_S])
      end
      if now_s - memory[DECREASED_S] > DECREASE_EVERY_S then
        slow_down(hit, share)
      else
        slow_down_more(hit)
      end
    end

    for i = 1, #throttles do
      local n, count, wait_s = throttles[i][1], throttles[i][2], throttles[i][3]
      if n == UNDECLARED_DAY then
        pause(wait_s >= 0 and wait_s or DAY_PAUSE_S, n)
      elseif n >= 0 and rules[n + 1][KIND] ~= CLOCK then
        day_is_over(n, wait_s)
      else
        learn_one(n, count, wait_s)
      end
    end
  end

  function pool.busiest_of(step)
    local busiest, latest_s = 0, 0
    for n = 1, step.count do
      local rule = step.rules[n]
      local at_s = pool.memory[TAT + rule[PLACE]] - rule[BURST_S]
      if rule[KIND] == CLOCK and (busiest == 0 or at_s > latest_s) then busiest, latest_s = n, at_s end
    end
    return busiest
  end

  function pool.in_windows(rate, rule)
    local per_window = rate * rule[WINDOW_S]
    if rule[PLACE] == 1 then
      local fits = per_window >= 1 and math.floor(per_window + 1e-9) or per_window
      return fits / rule[WINDOW_S] * (1 - pool.kept_free(LATE_S / rule[WINDOW_S]))
    end
    local row = pool.memory[LARGEST + rule[PLACE]] / per_window
    if row > 1 then row = 0 end
    return rate * (1 - pool.kept_free(row + LATE_S / rule[WINDOW_S]))
  end

  function pool.kept_free(share)
    return math.min(LARGEST_SHARE_KEPT_FREE, math.max(WINDOW_SHARE_KEPT_FREE, share))
  end
end
